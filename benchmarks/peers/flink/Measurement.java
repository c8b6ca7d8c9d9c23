import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.lang.management.GarbageCollectorMXBean;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;

/**
 * What one pass took and gave: wall and processor time from before the first event to after the last watermark, and
 * the transitions as columns. Static, as the job runs in this JVM; the processor time is the whole process's, so
 * that of the compiler and the collector too.
 */
final class Measurement {
  private static final OperatingSystemMXBean SYSTEM =
      (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

  private static long wallNs;
  private static long cpuNs;
  private static long collectorMs;
  private static int count;
  private static int[] audiences = new int[1 << 20];
  private static int[] users = new int[1 << 20];
  private static long[] times = new long[1 << 20];
  private static byte[] kinds = new byte[1 << 20];

  private Measurement() {}

  static void reset() {
    count = 0;
  }

  static void begin() {
    collectorMs = collectorMs();
    cpuNs = SYSTEM.getProcessCpuTime();
    wallNs = System.nanoTime();
  }

  static void end() {
    wallNs = System.nanoTime() - wallNs;
    cpuNs = SYSTEM.getProcessCpuTime() - cpuNs;
    collectorMs = collectorMs() - collectorMs;
  }

  static String report() {
    return String.format(
        Locale.ROOT,
        "{\"wall_s\": %.6f, \"cpu_s\": %.6f, \"collector_s\": %.3f, \"transitions\": %d}",
        wallNs / 1e9, cpuNs / 1e9, collectorMs / 1e3, count);
  }

  private static long collectorMs() {
    return ManagementFactory.getGarbageCollectorMXBeans().stream()
        .mapToLong(GarbageCollectorMXBean::getCollectionTime)
        .sum();
  }

  static void add(Transition transition) {
    if (count == users.length) {
      grow();
    }
    audiences[count] = transition.audience;
    users[count] = transition.user;
    times[count] = transition.atMs;
    kinds[count++] = (byte) (transition.entered ? 1 : 0);
  }

  private static void grow() {
    int room = users.length * 2;
    audiences = Arrays.copyOf(audiences, room);
    users = Arrays.copyOf(users, room);
    times = Arrays.copyOf(times, room);
    kinds = Arrays.copyOf(kinds, room);
  }

  /** Writes the columns one after the other, little-endian: at int64, audience int32, user int32, entered uint8. */
  static void write(File file) throws IOException {
    try (BufferedOutputStream out = new BufferedOutputStream(new FileOutputStream(file), 1 << 20)) {
      ByteBuffer place = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN);
      for (int i = 0; i < count; i++) {
        out.write(place.putLong(0, times[i]).array(), 0, 8);
      }
      for (int i = 0; i < count; i++) {
        out.write(place.putInt(0, audiences[i]).array(), 0, 4);
      }
      for (int i = 0; i < count; i++) {
        out.write(place.putInt(0, users[i]).array(), 0, 4);
      }
      out.write(kinds, 0, count);
    }
  }
}
