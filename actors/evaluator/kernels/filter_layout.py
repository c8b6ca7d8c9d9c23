"""Where each number lies in the tables that `matching.py` reads: a model's filters, and a batch's columns.

A *facet* is one way to look at a column, and gives each row a *class*, or several:

| facet | a row's classes |
|---|---|
| NUMBER, TIME | 0 missing; 1 + 2i between constants i - 1 and i; 2 + 2i equal to constant i; 2n + 2 NaN |
| NUMBER_VALUE, TIME_VALUE, STRING | 0 missing; 1 + i equal to constant i; n + 1 anything else |
| BOOLEAN | 0 missing, 1 false, 2 true |
| LIST | 0 missing, else n + 1 and, for each element that is constant i, 1 + i |
| PATTERN | none: the patterns that are true for the row's value |

where n is the number of the facet's constants, and those of NUMBER and TIME ascend.

What filters ask of a facet is ranges of its classes. They lie in a segment tree: a class leads to a *node*, each node
to the one above it, and the filters at these nodes are those that the class matches: the certain ones as words of
bits, and candidates, whose rest is a program of jumps still to be run.
"""

from __future__ import annotations

from typing import Final

# --- kinds of facets, and of a program's leaves ----------------------------------------------------
NUMBER: Final = 0  #: by order
TIME: Final = 1
BOOLEAN: Final = 2
STRING: Final = 3
LIST: Final = 4
PATTERN: Final = 5
NUMBER_VALUE: Final = 6  #: a facet only: by equality
TIME_VALUE: Final = 7
IS_SET: Final = 8  #: a leaf only: the column has a value

# --- a model's table: address and length of each array, two words, then scalars ---------------------------------
FACETS: Final = 0  #: int32, F_WIDTH a facet; those with an index come first
CONSTANTS: Final = 2  #: int64, numbers (as `ordered_key` makes them) and times
TEXT_STARTS: Final = 4  #: int32, where each constant of STRING and LIST facets begins in TEXT, and the end
TEXT: Final = 6  #: uint8, UTF-8 of the patterns, then of the constants
SLOTS: Final = 8  #: uint64, open addressing at most half full: upper half of the hash | class, 0 empty
CLASS_NODE: Final = 10  #: int32, the first node of a class, -1 none, or LONE - the one filter of such a node
NODES: Final = 12  #: int32, N_WIDTH a node; node 0 is met by every row
PAIR_WORD: Final = 14  #: int32
PAIR_MASK: Final = 16  #: uint64, filters 64 * PAIR_WORD + bit that match
CANDIDATES: Final = 18  #: int32, pairs: a filter, and the first instruction of the program that it matches by
CODE: Final = 20  #: int32, C_WIDTH an instruction
RANGES: Final = 22  #: int64, pairs of first and last, ascending and disjoint: numbers as above, times, 0 and 1, classes
PATTERNS: Final = 24  #: int32, P_WIDTH a pattern
M_ARRAYS_STOP: Final = 26
S_FILTERS: Final = 26  #: their number
S_INDEXED: Final = 27  #: how many facets have an index
M_WORDS: Final = 28

#: Ten thousand values of one filter each are met without their nodes: what a row reads stays in the cache.
LONE: Final = -2

# --- a node: what a row that meets it needs, in half a cache line -----------------------------------------
N_UP: Final = 0  #: the next node, -1 none
N_CANDIDATES: Final = 1
N_CANDIDATES_STOP: Final = 2
N_PAIRS: Final = 3  #: pairs of word and mask, but for the first
N_PAIRS_STOP: Final = 4
N_WORD: Final = 5  #: the first pair; mask 0: there is none
N_MASK: Final = 6
N_WIDTH: Final = 8

# --- bits of a float64, as int64 -----------------------------------------------------------------------
NEGATIVE_ZERO: Final = -(2**63)
POSITIVE: Final = 2**63 - 1  #: all but the sign
INFINITY: Final = 0x7FF0000000000000

# --- a facet -----------------------------------------------------------------------------------------
F_KIND: Final = 0
F_CLASSES: Final = 1  #: start in CLASS_NODE
F_CONSTANTS: Final = 2  #: start in CONSTANTS, or among the texts
F_COUNT: Final = 3  #: constants
F_SLOTS: Final = 4  #: start in SLOTS
F_SLOT_MASK: Final = 5
F_PATTERNS: Final = 6  #: the patterns that lead to nodes: from here
F_PATTERNS_STOP: Final = 7
F_WIDTH: Final = 8

# --- an instruction: one leaf ---------------------------------------------------------------------------
C_KIND: Final = 0
C_FACET: Final = 1
C_START: Final = 2  #: its ranges: from here, or its pattern
C_STOP: Final = 3
C_YES: Final = 4  #: the next instruction, or ACCEPT or REJECT
C_NO: Final = 5
C_LAST: Final = 6  #: instructions from the entry down to this one are one program
C_WIDTH: Final = 7
ACCEPT: Final = -1
REJECT: Final = -2

# --- a pattern -----------------------------------------------------------------------------------------
P_OP: Final = 0
P_START: Final = 1  #: its text in TEXT
P_STOP: Final = 2
P_POSITIVE: Final = 3  #: 0: the node is met where it is false
P_NODE: Final = 4  #: -1: it leads to none
P_WIDTH: Final = 5
CONTAINS: Final = 0
STARTS: Final = 1
ENDS: Final = 2
REGEX: Final = 3  #: not run here: known beforehand where it leads to a node, else asked
#: A question is a pattern, above these bits, and a value's place in its dictionary.
VALUE_BITS: Final = 32

# --- a column of a batch, by facet --------------------------------------------------------------------
B_VALUES: Final = 0  #: address: numbers, times, bits, places in the dictionary or offsets of lists
B_OFFSET: Final = 1  #: where the column begins, in elements
B_COUNT: Final = 2  #: where it ends
B_VALID: Final = 3  #: address of the validity bits, 0: all valid
B_STARTS: Final = 4  #: address of the offsets of the dictionary or of the lists' elements
B_TEXT: Final = 5  #: address of their UTF-8
B_TEXT_VALID: Final = 6  #: address of their validity bits, 0: all valid
B_TEXT_OFFSET: Final = 7  #: where they begin in these bits
B_TEXT_COUNT: Final = 8  #: how many they are
B_MEMO: Final = 9  #: scratch: where the memo of their classes begins
B_WIDTH: Final = 10

# --- a call: one model of a batch. Kernels get its address alone -------------------------------------------
CALL_TABLE: Final = 0  #: address of the model's table
CALL_COLUMNS: Final = 1  #: address of its facets' columns
CALL_FILTER: Final = 2  #: what its filter 0 is in the result
CALL_PATTERN: Final = 3  #: what its pattern 0 is in questions
CALL_KNOWN: Final = 4  #: address of the questions whose answer is yes, ascending
CALL_KNOWN_COUNT: Final = 5  #: their number
CALL_ASKING: Final = 6  #: 1: what is not known beforehand is asked
#: Scratch from here on, filled in by `matching.py`.
CALL_NEXT: Final = 7  #: how many of the model's rows are done
CALL_TOP: Final = 8  #: ids in use
CALL_LISTS_TOP: Final = 9  #: words of lists in use
CALL_ASKED_COUNT: Final = 10  #: questions, also those for which there was no room
CALL_MEMO: Final = 11  #: address and length of the classes known: by facet and place in its dictionary
CALL_BITS: Final = 13  #: address and length of a row's filters as words
CALL_TOUCHED: Final = 15  #: address and length of the bits of words that are not 0
CALL_LISTS: Final = 17  #: address and length of lists of nodes: by value, how many and which
CALL_ASKED: Final = 19  #: address and length of room for questions
CALL_WIDTH: Final = 21
