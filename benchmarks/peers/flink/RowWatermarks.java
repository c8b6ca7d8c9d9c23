import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;

/**
 * A watermark every so many rows, for rows in order of time.
 *
 * <p>Not every 200 ms of the wall clock, Flink's default: in a replay a hundred times faster than life that is a step
 * of a minute, in which windows end unseen, and the figure would depend on how fast the machine is.
 */
final class RowWatermarks implements WatermarkGenerator<Event> {
  private final int rows;
  private int seen;

  RowWatermarks(int rows) {
    this.rows = rows;
  }

  @Override
  public void onEvent(Event event, long clockMs, WatermarkOutput output) {
    if (++seen == rows) {
      seen = 0;
      output.emitWatermark(new Watermark(clockMs - 1));
    }
  }

  @Override
  public void onPeriodicEmit(WatermarkOutput output) {}
}
