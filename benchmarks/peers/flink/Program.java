import java.io.File;
import java.io.IOException;
import java.io.Serializable;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;

/**
 * The audiences as tables of integers, read from the JSON that {@code program.py} writes.
 *
 * <p>A leaf is an event count, true from some event until a ms that is known: its n-th latest event plus its window. A
 * trait test is a leaf whose end never comes, or has always been. An audience is an "any" of terms, a term an "all" of
 * literals: leaf x as x, its negation as ~x. So a term holds from the last end of its negated leaves until the first
 * end of the others, and the next ms at which an audience can change by time alone follows from a few additions.
 */
public final class Program implements Serializable {
  private static final long serialVersionUID = 1L;

  /** Ends that are always past or never come; with a window added they do not overflow. */
  public static final long ALWAYS_PAST_MS = Long.MIN_VALUE / 2;
  public static final long NEVER_MS = Long.MAX_VALUE / 2;

  // A user's state is one long[]: the places below, by group of audiences a lower bound of the first due time in it,
  // membership (a bit an audience), due times by audience, the trait tests, and the rings: the n latest times of each
  // "at least n" leaf, oldest first, those of an event model side by side.
  public static final int USER = 0;
  public static final int ARMED_MS = 1;
  public static final int GROUP_DUE_MS = 2;
  /** Audiences of a group; they read the same event models, as the JSON has them in that order. */
  public static final int GROUP = 16;

  /** Clock of the start, and of the end: nothing that is due after the last event's clock is made. */
  public final long startMs;
  public final long untilMs;
  public final List<TraitTest> traitTests = new ArrayList<>();
  /** The channels that filters name; an event carries the index. */
  public final List<String> channels = new ArrayList<>();

  /** By leaf, event counts first: the places of its ring, its window, the audiences that read it. */
  public final int[] ringFirst;
  public final int[] ringLast;
  public final long[] withinMs;
  public final int[][] readers;
  /** By model: leaves without filter, leaves by channel code, leaves by threshold (rising) on the amount. */
  public final int[][] plainLeaves;
  public final int[][][] channelLeaves;
  public final double[][] thresholds;
  public final int[][] thresholdLeaves;
  /** By audience: its number in the definitions, its terms of literals. */
  public final int[] numbers;
  public final int[][][] terms;

  public final int groups;
  public final int memberPlace;
  public final int duePlace;
  public final int traitPlace;
  public final int places;

  /** A trait test: with texts one of them, else above a number. */
  public record TraitTest(String column, double above, List<String> texts) implements Serializable {}

  private record Leaf(int number, int model, int atLeast, long withinMs, String channel, double from) {}

  public static Program read(File file) throws IOException {
    return new Program(new ObjectMapper().readTree(file));
  }

  private Program(JsonNode root) {
    startMs = root.required("start_ms").longValue();
    untilMs = root.required("until_ms").longValue();
    List<Leaf> leaves = new ArrayList<>();
    root.required("leaves").forEach(node -> leaves.add(leaf(leaves.size(), node)));
    root.required("traits").forEach(node -> traitTests.add(traitTest(node)));
    leaves.stream().map(Leaf::channel).filter(Objects::nonNull).distinct().forEach(channels::add);

    int models = root.required("models").intValue();
    plainLeaves = new int[models][];
    channelLeaves = new int[models][channels.size()][];
    thresholds = new double[models][];
    thresholdLeaves = new int[models][];
    for (int model = 0; model < models; model++) {
      index(model, leaves);
    }

    JsonNode audiences = root.required("audiences");
    numbers = new int[audiences.size()];
    terms = new int[audiences.size()][][];
    for (int audience = 0; audience < terms.length; audience++) {
      numbers[audience] = audiences.get(audience).required("number").intValue();
      terms[audience] = terms(audiences.get(audience).required("any"));
    }
    readers = IntStream.range(0, leaves.size()).mapToObj(this::readersOf).toArray(int[][]::new);

    groups = (terms.length + GROUP - 1) / GROUP;
    memberPlace = GROUP_DUE_MS + groups;
    duePlace = memberPlace + (terms.length + 63 >>> 6);
    traitPlace = duePlace + terms.length;
    int[] sizes = IntStream.concat(
        leaves.stream().mapToInt(Leaf::atLeast), IntStream.generate(() -> 1).limit(traitTests.size())).toArray();
    withinMs = Arrays.copyOf(leaves.stream().mapToLong(Leaf::withinMs).toArray(), sizes.length);
    ringFirst = new int[sizes.length];
    ringLast = new int[sizes.length];
    for (int test = 0; test < traitTests.size(); test++) {
      ringFirst[leaves.size() + test] = traitPlace + test;
    }
    int place = traitPlace + traitTests.size();
    for (Leaf leaf : leaves) {
      ringFirst[leaf.number] = place;
      place += leaf.atLeast;
      ringLast[leaf.number] = place - 1;
    }
    places = place;
  }

  private static TraitTest traitTest(JsonNode node) {
    String column = node.required("column").textValue();
    if (node.has("above")) {
      return new TraitTest(column, node.get("above").doubleValue(), null);
    }
    List<String> texts = new ArrayList<>();
    node.required("texts").forEach(text -> texts.add(text.textValue()));
    return new TraitTest(column, Double.NaN, texts);
  }

  private static Leaf leaf(int number, JsonNode node) {
    JsonNode channel = node.get("channel");
    JsonNode from = node.get("amount_from");
    return new Leaf(
        number,
        node.required("model").intValue(),
        node.required("at_least").intValue(),
        node.required("within_ms").longValue(),
        channel == null ? null : channel.textValue(),
        from == null ? Double.NaN : from.doubleValue());
  }

  private void index(int model, List<Leaf> all) {
    List<Leaf> leaves = all.stream().filter(leaf -> leaf.model == model).toList();
    plainLeaves[model] = numbers(leaves.stream().filter(l -> l.channel == null && Double.isNaN(l.from)).toList());
    for (int code = 0; code < channels.size(); code++) {
      String channel = channels.get(code);
      channelLeaves[model][code] = numbers(leaves.stream().filter(l -> channel.equals(l.channel)).toList());
    }
    List<Leaf> rising =
        leaves.stream().filter(l -> !Double.isNaN(l.from)).sorted(Comparator.comparingDouble(Leaf::from)).toList();
    thresholds[model] = rising.stream().mapToDouble(Leaf::from).toArray();
    thresholdLeaves[model] = numbers(rising);
  }

  private static int[] numbers(List<Leaf> leaves) {
    return leaves.stream().mapToInt(Leaf::number).toArray();
  }

  private static int[][] terms(JsonNode node) {
    int[][] found = new int[node.size()][];
    for (int term = 0; term < found.length; term++) {
      JsonNode literals = node.get(term);
      found[term] = IntStream.range(0, literals.size()).map(i -> literals.get(i).intValue()).toArray();
    }
    return found;
  }

  private int[] readersOf(int leaf) {
    return IntStream.range(0, terms.length)
        .filter(audience -> Arrays.stream(terms[audience]).flatMapToInt(Arrays::stream)
            .anyMatch(literal -> literal == leaf || literal == ~leaf))
        .toArray();
  }
}
