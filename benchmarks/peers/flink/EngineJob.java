import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/**
 * The job, run anew for each line on stdin: {@code EngineJob FOLDER ROWS_A_WATERMARK}.
 *
 * <p>A line is {"exchange": bool, "write": path or null}. Without exchange the stream counts as keyed already, as one
 * from a log that is partitioned by user does, and source, function and sink run chained in one thread without any
 * serialization; with it, {@code keyBy} puts every event through Flink's (local) network stack. The answer is one line
 * of JSON with what the pass took. All passes run in this JVM: the first one warms it up.
 */
public final class EngineJob {
  private EngineJob() {}

  public static void main(String[] arguments) throws Exception {
    File folder = new File(arguments[0]);
    int rowsAWatermark = Integer.parseInt(arguments[1]);
    Program program = Program.read(new File(folder, "program.json"));
    System.out.printf("{\"version\": \"%s\"}%n", EnvironmentInformation.getVersion());
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    ObjectMapper json = new ObjectMapper();
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      JsonNode asked = json.readTree(line);
      run(program, folder, rowsAWatermark, asked.required("exchange").booleanValue());
      JsonNode path = asked.required("write");
      if (!path.isNull()) {
        Measurement.write(new File(path.textValue()));
      }
      System.out.println(Measurement.report());
    }
  }

  private static void run(Program program, File folder, int rowsAWatermark, boolean exchange) throws Exception {
    Measurement.reset();
    Configuration configuration = new Configuration();
    configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
    configuration.set(PipelineOptions.OBJECT_REUSE, true);
    // Fails where anything would fall back to Kryo.
    configuration.set(PipelineOptions.GENERIC_TYPES, false);
    StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(1, configuration);
    File traits = new File(folder, "traits.arrow");
    DataStream<Event> events = environment.fromSource(
        new EventSource(program, traits, new File(folder, "events.arrow")),
        WatermarkStrategy.forGenerator(context -> new RowWatermarks(rowsAWatermark)),
        "events",
        TypeInformation.of(Event.class));
    KeyedStream<Event, String> users = exchange
        ? events.keyBy(event -> event.user, Types.STRING)
        : DataStreamUtils.reinterpretAsKeyedStream(events, event -> event.user, Types.STRING);
    users.process(new AudienceFunction(program, traits), TypeInformation.of(Transition.class))
        .sinkTo(new TransitionSink());
    environment.execute("audiences");
  }
}
