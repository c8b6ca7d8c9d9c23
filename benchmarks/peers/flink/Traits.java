import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.python.shaded.org.apache.arrow.memory.BufferAllocator;
import org.apache.flink.api.python.shaded.org.apache.arrow.memory.RootAllocator;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.flink.api.python.shaded.org.apache.arrow.vector.ipc.ArrowStreamReader;

/** The trait table in memory: the users' names, and the truth of every trait test. Read before the clock starts. */
final class Traits {
  final List<String> users = new ArrayList<>();
  /** By row, the truth of each of {@link Program#traitTests}. */
  private final List<boolean[]> truths = new ArrayList<>();
  private final Program program;

  Traits(File file, Program program) throws IOException {
    this.program = program;
    try (BufferAllocator memory = new RootAllocator();
        FileInputStream in = new FileInputStream(file);
        ArrowStreamReader reader = new ArrowStreamReader(in, memory)) {
      VectorSchemaRoot root = reader.getVectorSchemaRoot();
      while (reader.loadNextBatch()) {
        for (int row = 0; row < root.getRowCount(); row++) {
          users.add(root.getVector("user_id").getObject(row).toString());
          truths.add(judge(root, row));
        }
      }
    }
  }

  private boolean[] judge(VectorSchemaRoot root, int row) {
    boolean[] truth = new boolean[program.traitTests.size()];
    for (int test = 0; test < truth.length; test++) {
      Program.TraitTest asked = program.traitTests.get(test);
      Object value = root.getVector(asked.column()).getObject(row);
      truth[test] = value != null
          && (asked.texts() == null ? (Double) value > asked.above() : asked.texts().contains(value.toString()));
    }
    return truth;
  }

  /** Makes the state of the user in a row, of whom nothing but traits is known. */
  long[] stateOf(int row) {
    long[] user = new long[program.places];
    Arrays.fill(user, Program.ALWAYS_PAST_MS);
    user[Program.USER] = row;
    Arrays.fill(user, Program.ARMED_MS, program.memberPlace, Program.NEVER_MS);
    Arrays.fill(user, program.memberPlace, program.duePlace, 0);
    boolean[] truth = truths.get(row);
    for (int test = 0; test < truth.length; test++) {
      user[program.traitPlace + test] = truth[test] ? Program.NEVER_MS : Program.ALWAYS_PAST_MS;
    }
    return user;
  }
}
