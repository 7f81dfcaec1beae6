package org.rescuecds.hapi;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.ImportAutoConfiguration;
import org.springframework.boot.autoconfigure.context.PropertyPlaceholderAutoConfiguration;
import org.springframework.boot.autoconfigure.http.HttpMessageConvertersAutoConfiguration;
import org.springframework.boot.autoconfigure.jackson.JacksonAutoConfiguration;
import org.springframework.boot.autoconfigure.jdbc.DataSourceAutoConfiguration;
import org.springframework.boot.autoconfigure.web.servlet.DispatcherServletAutoConfiguration;
import org.springframework.boot.autoconfigure.web.servlet.ServletWebServerFactoryAutoConfiguration;
import org.springframework.boot.autoconfigure.web.servlet.WebMvcAutoConfiguration;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;

/**
 * A HAPI FHIR R4 server on the loopback interface: {@code /fhir} is HAPI, {@code /test} tells it how to misbehave.
 *
 * <p>Spring Boot's auto-configurations are named one by one: HAPI's classpath would set off dozens more, which cost
 * start-up time and bring what a test server must not have (a second search backend, an API browser).
 */
@Configuration
@ImportAutoConfiguration({
    PropertyPlaceholderAutoConfiguration.class,
    DataSourceAutoConfiguration.class,
    ServletWebServerFactoryAutoConfiguration.class,
    DispatcherServletAutoConfiguration.class,
    WebMvcAutoConfiguration.class,
    HttpMessageConvertersAutoConfiguration.class,
    JacksonAutoConfiguration.class,
})
@Import({FhirConfig.class, Control.class})
public class TestServer {

    public static void main(String[] arguments) {
        Thread watch = new Thread(TestServer::endWithParent, "end-with-parent");
        watch.setDaemon(true);
        watch.start();
        SpringApplication.run(TestServer.class, arguments);
    }

    /** Ends this process when its standard input does, that is when whoever started it has gone, however it went. */
    private static void endWithParent() {
        try (InputStream input = System.in) {
            input.transferTo(OutputStream.nullOutputStream());
        } catch (IOException gone) {
            // the same as the end of the input
        }
        Runtime.getRuntime().halt(0); // the database is in memory: there is nothing to put away
    }
}
