import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.python.shaded.org.apache.arrow.memory.BufferAllocator;
import org.apache.flink.api.python.shaded.org.apache.arrow.memory.RootAllocator;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.FieldVector;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.VarCharVector;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.dictionary.Dictionary;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.ipc.ArrowStreamReader;

/** The events of an Arrow stream, a batch of columns at a time, copied whole into primitive arrays. */
final class EventBatches implements AutoCloseable {
  private final Program program;
  private final BufferAllocator memory = new RootAllocator();
  private final ArrowStreamReader reader;
  private final VectorSchemaRoot root;
  private int[] channelCodes;
  private int rows;
  private int row;
  private long[] clocks = {};
  private short[] models = {};
  private byte[] channels = {};
  private double[] amounts = {};
  private int[] nameEnds = {};
  private byte[] names = {};

  EventBatches(File file, Program program) throws IOException {
    this.program = program;
    reader = new ArrowStreamReader(new FileInputStream(file), memory);
    root = reader.getVectorSchemaRoot();
  }

  /** Fills in the next event; false: there is none. */
  boolean next(Event event) throws IOException {
    if (row == rows && !load()) {
      return false;
    }
    int at = row++;
    int start = nameEnds[at];
    event.user = new String(names, start, nameEnds[at + 1] - start, StandardCharsets.UTF_8);
    event.clockMs = clocks[at];
    event.model = models[at];
    event.channel = channelCodes[channels[at]];
    event.amount = amounts[at];
    return true;
  }

  private boolean load() throws IOException {
    do {
      if (!reader.loadNextBatch()) {
        return false;
      }
      rows = root.getRowCount();
    } while (rows == 0);
    row = 0;
    if (rows > clocks.length) {
      grow();
    }
    for (FieldVector vector : root.getFieldVectors()) {
      // The workload has no missing values, so nothing below looks for any.
      if (vector.getNullCount() != 0) {
        throw new IOException("missing values in column " + vector.getName());
      }
    }
    little("clock_ms", rows * 8L).asLongBuffer().get(clocks, 0, rows);
    little("model", rows * 2L).asShortBuffer().get(models, 0, rows);
    little("channel", rows).get(channels, 0, rows);
    little("amount", rows * 8L).asDoubleBuffer().get(amounts, 0, rows);
    copyNames();
    if (channelCodes == null) {
      channelCodes = channelCodes();
    }
    return true;
  }

  private void grow() {
    clocks = new long[rows];
    models = new short[rows];
    channels = new byte[rows];
    amounts = new double[rows];
    nameEnds = new int[rows + 1];
  }

  private ByteBuffer little(String column, long bytes) {
    return root.getVector(column).getDataBuffer().nioBuffer(0, (int) bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private void copyNames() {
    VarCharVector vector = (VarCharVector) root.getVector("user");
    vector.getOffsetBuffer().nioBuffer(0, 4 * (rows + 1)).order(ByteOrder.LITTLE_ENDIAN).asIntBuffer()
        .get(nameEnds, 0, rows + 1);
    int bytes = nameEnds[rows];
    if (bytes > names.length) {
      names = new byte[bytes];
    }
    vector.getDataBuffer().getBytes(0, names, 0, bytes);
  }

  /** The dictionary's channels as codes of the program: no event's text is ever compared. */
  private int[] channelCodes() throws IOException {
    Dictionary dictionary =
        reader.lookup(root.getVector("channel").getField().getDictionary().getId());
    FieldVector values = dictionary.getVector();
    int[] codes = new int[values.getValueCount()];
    for (int i = 0; i < codes.length; i++) {
      codes[i] = program.channels.indexOf(values.getObject(i).toString());
    }
    return codes;
  }

  @Override
  public void close() throws IOException {
    reader.close();
    memory.close();
  }
}
