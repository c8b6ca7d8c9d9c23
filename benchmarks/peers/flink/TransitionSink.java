import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/** Keeps the transitions as columns in memory; the last watermark, past all timers, stops the clock. */
public final class TransitionSink implements Sink<Transition> {
  private static final long serialVersionUID = 1L;

  @Override
  public SinkWriter<Transition> createWriter(WriterInitContext context) {
    return new Writer();
  }

  private static final class Writer implements SinkWriter<Transition> {
    @Override
    public void write(Transition transition, Context context) {
      Measurement.add(transition);
    }

    @Override
    public void writeWatermark(Watermark watermark) {
      if (watermark.getTimestamp() == Long.MAX_VALUE) {
        Measurement.end();
      }
    }

    @Override
    public void flush(boolean endOfInput) {}

    @Override
    public void close() {}
  }
}
