import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** One split, the files: first a row a user for its traits, then, the clock started, the events. */
public final class EventSource implements Source<Event, EventSource.Files, Void> {
  private static final long serialVersionUID = 1L;

  /** Rows given in one call of {@code pollNext}: the task's loop around it would cost as much as a row. */
  private static final int ROWS_A_POLL = 256;

  private final Program program;
  private final File traitsFile;
  private final File eventsFile;

  EventSource(Program program, File traitsFile, File eventsFile) {
    this.program = program;
    this.traitsFile = traitsFile;
    this.eventsFile = eventsFile;
  }

  /** The only split. */
  public static final class Files implements SourceSplit {
    @Override
    public String splitId() {
      return "files";
    }
  }

  @Override
  public Boundedness getBoundedness() {
    return Boundedness.BOUNDED;
  }

  @Override
  public SourceReader<Event, Files> createReader(SourceReaderContext context) {
    return new Reader();
  }

  @Override
  public SplitEnumerator<Files, Void> createEnumerator(SplitEnumeratorContext<Files> context) {
    return new Enumerator(context);
  }

  @Override
  public SplitEnumerator<Files, Void> restoreEnumerator(SplitEnumeratorContext<Files> context, Void checkpoint) {
    return new Enumerator(context);
  }

  @Override
  public SimpleVersionedSerializer<Files> getSplitSerializer() {
    return new EmptySerializer<>(new Files());
  }

  @Override
  public SimpleVersionedSerializer<Void> getEnumeratorCheckpointSerializer() {
    return new EmptySerializer<>(null);
  }

  private final class Reader implements SourceReader<Event, Files> {
    private final CompletableFuture<Void> available = new CompletableFuture<>();
    private final Event event = new Event();
    private Traits traits;
    private EventBatches batches;
    private int user;

    @Override
    public void start() {}

    @Override
    public void addSplits(List<Files> splits) {
      try {
        traits = new Traits(traitsFile, program);
        batches = new EventBatches(eventsFile, program);
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
      available.complete(null);
    }

    @Override
    public InputStatus pollNext(ReaderOutput<Event> output) throws IOException {
      if (batches == null) {
        return InputStatus.NOTHING_AVAILABLE;
      }
      if (traits != null) {
        giveUser(output);
        return InputStatus.MORE_AVAILABLE;
      }
      for (int i = 0; i < ROWS_A_POLL; i++) {
        if (!batches.next(event)) {
          return InputStatus.END_OF_INPUT;
        }
        output.collect(event, event.clockMs);
      }
      return InputStatus.MORE_AVAILABLE;
    }

    private void giveUser(ReaderOutput<Event> output) {
      if (user == traits.users.size()) {
        traits = null;
        Measurement.begin();
        return;
      }
      event.model = Event.TRAITS;
      event.user = traits.users.get(user);
      event.row = user++;
      event.clockMs = program.startMs;
      output.collect(event, event.clockMs);
    }

    @Override
    public CompletableFuture<Void> isAvailable() {
      return available;
    }

    @Override
    public List<Files> snapshotState(long checkpointId) {
      throw new UnsupportedOperationException("the job takes no checkpoints");
    }

    @Override
    public void notifyNoMoreSplits() {}

    @Override
    public void close() throws IOException {
      if (batches != null) {
        batches.close();
      }
    }
  }

  private static final class Enumerator implements SplitEnumerator<Files, Void> {
    private final SplitEnumeratorContext<Files> context;

    Enumerator(SplitEnumeratorContext<Files> context) {
      this.context = context;
    }

    @Override
    public void start() {}

    @Override
    public void addReader(int subtask) {
      context.assignSplit(new Files(), subtask);
      context.signalNoMoreSplits(subtask);
    }

    @Override
    public void handleSplitRequest(int subtask, String host) {}

    @Override
    public void addSplitsBack(List<Files> splits, int subtask) {}

    @Override
    public Void snapshotState(long checkpointId) {
      return null;
    }

    @Override
    public void close() {}
  }

  private record EmptySerializer<T>(T value) implements SimpleVersionedSerializer<T> {
    @Override
    public int getVersion() {
      return 1;
    }

    @Override
    public byte[] serialize(T given) {
      return new byte[0];
    }

    @Override
    public T deserialize(int version, byte[] serialized) {
      return value;
    }
  }
}
