import java.io.File;
import java.util.logging.Handler;
import java.util.logging.LogRecord;
import java.util.logging.Logger;
import org.apache.catalina.Context;
import org.apache.catalina.LifecycleState;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.core.StandardHost;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.valves.ErrorReportValve;
import org.apache.catalina.valves.RemoteIpValve;
import org.apache.tomcat.util.scan.StandardJarScanner;

/** Serves one web application at the root of $PORT: listens when it is up, and ends when it does not come up. */
public class Serve {
    /** What went wrong first, for the last line: what Tomcat says of it is longer than anybody is shown of a failed start. */
    static Throwable first;

    public static void main(String[] args) throws Exception {
        Tomcat tomcat = new Tomcat();
        File base = new File("/tmp/tomcat");
        new File(base, "webapps").mkdirs();
        tomcat.setBaseDir(base.getPath());

        StandardHost host = (StandardHost) tomcat.getHost();
        RemoteIpValve proxies = new RemoteIpValve();
        proxies.setProtocolHeader("X-Forwarded-Proto");
        host.getPipeline().addValve(proxies);
        ErrorReportValve errors = new ErrorReportValve();
        errors.setShowReport(false);
        errors.setShowServerInfo(false);
        host.getPipeline().addValve(errors);
        host.setErrorReportValveClass("");

        Context app = tomcat.addWebapp("", new File(args[0]).getAbsolutePath());
        ((StandardJarScanner) app.getJarScanner()).setScanClassPath(false); // Tomcat's own jars have nothing to find
        Handler failures = new Handler() {
            @Override
            public void publish(LogRecord record) {
                first = first == null ? record.getThrown() : first;
            }

            @Override
            public void flush() {}

            @Override
            public void close() {}
        };
        Logger.getLogger("").addHandler(failures);
        tomcat.start();
        if (app.getState() != LifecycleState.STARTED) {
            while (first != null && first.getCause() != null) {
                first = first.getCause();
            }
            System.err.println("The web application did not start: " + first);
            System.exit(1);
        }
        Logger.getLogger("").removeHandler(failures);
        Connector connector = new Connector();
        connector.setPort(Integer.parseInt(System.getenv("PORT")));
        connector.setProperty("maxThreads", "50");
        connector.setProperty("minSpareThreads", "4");
        tomcat.getService().addConnector(connector); // not before: whoever can connect takes the application for up
        if (connector.getState() != LifecycleState.STARTED) {
            System.exit(1);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                tomcat.stop();
            } catch (Exception e) {
                e.printStackTrace();
            }
            Runtime.getRuntime().halt(0); // to end when told to is no failure
        }));
        tomcat.getServer().await();
    }
}
