import java.io.File;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.streaming.api.TimerService;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Who is in which audience, a user at a time; {@link Program} says how a user's state is laid out.
 *
 * <p>A user has one timer, at the first ms at which an audience can change by time alone. It is not moved when an
 * event puts that off, but looks again when it fires. Whatever is due up to the watermark is then made in one go, each
 * change stamped with its own ms; and before an event of the user is applied, whatever is due up to it. So stamps
 * are exact however far the watermark lags, and a window that ends without changing an audience costs nothing.
 */
public final class AudienceFunction extends KeyedProcessFunction<String, Event, Transition> {
  private static final long serialVersionUID = 1L;

  private final Program program;
  private final File traitsFile;
  private transient Traits traits;
  private transient ValueState<long[]> state;
  private transient Transition transition;
  /** Leaves that the event at hand matches. */
  private transient int[] matched;
  /** Audiences that are due while the clock moves, the last one first. */
  private transient int[] dueAudiences;
  private transient long[] dueTimesMs;
  private transient int dueCount;

  AudienceFunction(Program program, File traitsFile) {
    this.program = program;
    this.traitsFile = traitsFile;
  }

  @Override
  public void open(OpenContext context) throws Exception {
    traits = new Traits(traitsFile, program);
    state = getRuntimeContext().getState(
        new ValueStateDescriptor<>("user", PrimitiveArrayTypeInfo.LONG_PRIMITIVE_ARRAY_TYPE_INFO));
    transition = new Transition();
    matched = new int[program.readers.length];
    dueAudiences = new int[program.terms.length];
    dueTimesMs = new long[program.terms.length];
  }

  @Override
  public void processElement(Event event, Context context, Collector<Transition> out) throws Exception {
    if (event.model == Event.TRAITS) {
      begin(event, out);
      return;
    }
    // The heap backend hands out the object that it holds: it is changed in place.
    long[] user = state.value();
    long dueMs = advance(user, event.clockMs, out);
    int count = match(event);
    for (int i = 0; i < count; i++) {
      push(user, matched[i], event.clockMs);
    }
    for (int i = 0; i < count; i++) {
      for (int audience : program.readers[matched[i]]) {
        dueMs = Math.min(dueMs, awaited(user, audience, judge(user, audience, event.clockMs, out)));
      }
    }
    arm(user, dueMs, context.timerService());
  }

  @Override
  public void onTimer(long timerMs, OnTimerContext context, Collector<Transition> out) throws Exception {
    long[] user = state.value();
    TimerService timers = context.timerService();
    long dueMs = advance(user, Math.min(timers.currentWatermark(), program.untilMs), out);
    if (timerMs >= user[Program.ARMED_MS]) {
      user[Program.ARMED_MS] = Program.NEVER_MS;
    }
    arm(user, dueMs, timers);
  }

  private void begin(Event event, Collector<Transition> out) throws Exception {
    long[] user = traits.stateOf(event.row);
    for (int audience = 0; audience < program.terms.length; audience++) {
      awaited(user, audience, judge(user, audience, event.clockMs, out));
    }
    state.update(user);
  }

  private void arm(long[] user, long dueMs, TimerService timers) {
    // The end of input fires every timer: one past the last clock would have nothing to do.
    if (dueMs < user[Program.ARMED_MS] && dueMs <= program.untilMs) {
      timers.registerEventTimeTimer(dueMs);
      user[Program.ARMED_MS] = dueMs;
    }
  }

  /** Finds the leaves that an event matches, into {@link #matched}; gives their number. */
  private int match(Event event) {
    int count = 0;
    for (int leaf : program.plainLeaves[event.model]) {
      matched[count++] = leaf;
    }
    if (event.channel >= 0) {
      for (int leaf : program.channelLeaves[event.model][event.channel]) {
        matched[count++] = leaf;
      }
    }
    double[] thresholds = program.thresholds[event.model];
    int[] leaves = program.thresholdLeaves[event.model];
    for (int i = 0; i < thresholds.length && thresholds[i] <= event.amount; i++) {
      matched[count++] = leaves[i];
    }
    return count;
  }

  private void push(long[] user, int leaf, long clockMs) {
    int last = program.ringLast[leaf];
    for (int i = program.ringFirst[leaf]; i < last; i++) {
      user[i] = user[i + 1];
    }
    user[last] = clockMs;
  }

  /** Makes every change up to and with {@code reachedMs}, in due order; gives the first due time after that. */
  private long advance(long[] user, long reachedMs, Collector<Transition> out) {
    dueCount = 0;
    for (int group = 0; group < program.groups; group++) {
      if (user[Program.GROUP_DUE_MS + group] <= reachedMs) {
        gather(user, group, reachedMs);
      }
    }
    while (dueCount > 0) {
      int audience = dueAudiences[--dueCount];
      long nextMs = judge(user, audience, dueTimesMs[dueCount], out);
      if (nextMs <= reachedMs) {
        insert(audience, nextMs);
      } else {
        awaited(user, audience, nextMs);
      }
    }
    long dueMs = Program.NEVER_MS;
    for (int group = 0; group < program.groups; group++) {
      dueMs = Math.min(dueMs, user[Program.GROUP_DUE_MS + group]);
    }
    return dueMs;
  }

  private void gather(long[] user, int group, long reachedMs) {
    long nextMs = Program.NEVER_MS;
    int end = Math.min((group + 1) * Program.GROUP, program.terms.length);
    for (int audience = group * Program.GROUP; audience < end; audience++) {
      long dueMs = user[program.duePlace + audience];
      if (dueMs <= reachedMs) {
        insert(audience, dueMs);
      } else {
        nextMs = Math.min(nextMs, dueMs);
      }
    }
    user[Program.GROUP_DUE_MS + group] = nextMs;
  }

  private void insert(int audience, long dueMs) {
    int place = dueCount++;
    while (place > 0 && dueTimesMs[place - 1] < dueMs) {
      dueTimesMs[place] = dueTimesMs[place - 1];
      dueAudiences[place] = dueAudiences[place - 1];
      place--;
    }
    dueTimesMs[place] = dueMs;
    dueAudiences[place] = audience;
  }

  /** Notes when an audience may change next. */
  private long awaited(long[] user, int audience, long dueMs) {
    user[program.duePlace + audience] = dueMs;
    int group = Program.GROUP_DUE_MS + audience / Program.GROUP;
    user[group] = Math.min(user[group], dueMs);
    return dueMs;
  }

  /** Settles membership in an audience; gives the first ms after {@code atMs} at which it may change by time alone. */
  private long judge(long[] user, int audience, long atMs, Collector<Transition> out) {
    boolean holds = false;
    long nextMs = Program.NEVER_MS;
    for (int[] term : program.terms[audience]) {
      long beginMs = Program.ALWAYS_PAST_MS;
      long endMs = Program.NEVER_MS;
      for (int literal : term) {
        if (literal >= 0) {
          endMs = Math.min(endMs, user[program.ringFirst[literal]] + program.withinMs[literal]);
        } else {
          beginMs = Math.max(beginMs, user[program.ringFirst[~literal]] + program.withinMs[~literal]);
        }
      }
      if (endMs <= atMs || endMs <= beginMs) {
        continue;
      }
      holds |= beginMs <= atMs;
      nextMs = Math.min(nextMs, beginMs <= atMs ? endMs : beginMs);
    }
    int word = program.memberPlace + (audience >>> 6);
    long bit = 1L << audience;
    if (holds != ((user[word] & bit) != 0)) {
      user[word] ^= bit;
      transition.audience = program.numbers[audience];
      transition.user = (int) user[Program.USER];
      transition.atMs = atMs;
      transition.entered = holds;
      out.collect(transition);
    }
    return nextMs;
  }
}
