package org.rescuecds.hapi;

import ca.uhn.fhir.rest.api.server.RequestDetails;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * One request, as far as a test may ask about it. Parameters are those of the address and of a form alike, decoded.
 * For a further page of a search, {@code type}, {@code patients} and {@code parameters} are those of its first page.
 */
public record Seen(
        String method,
        String path,
        String type,
        List<String> patients,
        Map<String, List<String>> parameters,
        boolean page,
        String cacheControl,
        String prefer,
        boolean authorization) {

    static Seen of(RequestDetails request, Seen first) {
        String path = request.getRequestPath() == null ? "" : request.getRequestPath();
        boolean page = request.getParameters().containsKey("_getpages");
        Map<String, List<String>> parameters = new TreeMap<>(first == null ? Map.of() : first.parameters());
        request.getParameters().forEach((name, values) -> parameters.put(name, Arrays.asList(values)));
        return new Seen(
                request.getRequestType().name(),
                path,
                first == null ? request.getResourceName() : first.type(),
                first == null ? patientsOf(request) : first.patients(),
                parameters,
                page,
                request.getHeader("Cache-Control"),
                request.getHeader("Prefer"),
                request.getHeader("Authorization") != null);
    }

    String text() {
        return parameters.entrySet().stream()
                .flatMap(each -> each.getValue().stream().map(value -> each.getKey() + "=" + value))
                .collect(Collectors.joining("&", path + "?", ""));
    }

    private static List<String> patientsOf(RequestDetails request) {
        boolean isPatient = "Patient".equals(request.getResourceName());
        Stream<String> read =
                isPatient && request.getId() != null ? Stream.of(request.getId().getIdPart()) : Stream.of();
        Stream<String> searched = (isPatient ? Stream.of("_id") : Stream.of("patient", "subject"))
                .flatMap(name -> Arrays.stream(request.getParameters().getOrDefault(name, new String[0])))
                .flatMap(value -> Arrays.stream(value.split(",")))
                .map(value -> value.substring(value.lastIndexOf('/') + 1));
        return Stream.concat(read, searched).distinct().toList();
    }
}
