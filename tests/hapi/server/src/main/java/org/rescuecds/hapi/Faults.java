package org.rescuecds.hapi;

import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.Interceptor;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.exceptions.AuthenticationException;
import ca.uhn.fhir.rest.server.exceptions.BaseServerResponseException;
import ca.uhn.fhir.rest.server.exceptions.UnclassifiedServerFailureException;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.springframework.web.util.UriComponentsBuilder;

/**
 * Keeps the requests it saw, and makes those fail that a rule names. Everything else stays HAPI's own behaviour.
 *
 * <p>It looks at a request after HAPI has parsed it, so that a search by form ({@code POST _search}) has its
 * parameters beside those of the address, and a rule for one patient covers both. A link to a further page names
 * neither patient nor type; the search that it belongs to is therefore remembered by the id in its first answer.
 * Requests inside a batch or transaction are not seen one by one.
 */
@Interceptor
public class Faults {

    private static final int MOST_SEEN = 2000;
    private static final int MOST_SEARCHES = 2000;
    private static final String WORDS = "Injected by a rule of this test server.";
    private static final String ACTING = Faults.class.getName() + ".acting";
    private static final String SEEN = Faults.class.getName() + ".seen";

    private final List<Active> active = new CopyOnWriteArrayList<>();
    private final AtomicInteger names = new AtomicInteger();
    private final Deque<Seen> seen = new ArrayDeque<>();
    private final Map<String, Seen> searches = new LinkedHashMap<>();

    private record Active(Rule rule, AtomicInteger used) {

        boolean takes(Seen request) {
            return (rule.match() == null || rule.match().covers(request))
                    && (used.getAndIncrement() < rule.times() || rule.times() == 0);
        }
    }

    List<String> add(List<Rule> rules) {
        List<Rule> named = rules.stream()
                .map(rule -> rule.named(Integer.toString(names.incrementAndGet())))
                .toList();
        named.forEach(rule -> active.add(new Active(rule, new AtomicInteger())));
        return named.stream().map(Rule::id).toList();
    }

    List<Rule> rules() {
        return active.stream().map(Active::rule).toList();
    }

    void remove(String id) {
        active.removeIf(each -> each.rule().id().equals(id));
    }

    void removeAll() {
        active.clear();
    }

    List<Seen> seen() {
        synchronized (seen) {
            return List.copyOf(seen);
        }
    }

    void forget() {
        synchronized (seen) {
            seen.clear();
        }
    }

    /** @return false where the answer was written here */
    @Hook(Pointcut.SERVER_INCOMING_REQUEST_POST_PROCESSED)
    public boolean incoming(RequestDetails request, HttpServletResponse response)
            throws IOException, InterruptedException {
        Seen now = Seen.of(request, firstOf(request));
        keep(now);
        List<Rule> acting =
                active.stream().filter(each -> each.takes(now)).map(Active::rule).toList();
        request.getUserData().put(SEEN, now);
        request.getUserData().put(ACTING, acting);
        Thread.sleep(acting.stream().mapToLong(Rule::latencyMs).sum());
        for (Rule rule : acting) {
            refuse(rule, request);
        }
        if (acting.stream().anyMatch(Rule::html)) {
            response.setStatus(200);
            response.setContentType("text/html;charset=utf-8");
            response.getWriter().write("<!doctype html><title>Sign in</title><p>" + WORDS);
            return false;
        }
        return true;
    }

    /** @return false where the answer was written here */
    @Hook(Pointcut.SERVER_OUTGOING_RESPONSE)
    public boolean outgoing(RequestDetails request, IBaseResource answer, HttpServletResponse response)
            throws IOException {
        @SuppressWarnings("unchecked")
        List<Rule> acting = (List<Rule>) request.getUserData().getOrDefault(ACTING, List.of());
        if (answer instanceof Bundle bundle) {
            remember(bundle, (Seen) request.getUserData().get(SEEN));
            if (acting.stream().anyMatch(Rule::withoutTotal)) {
                bundle.setTotalElement(null);
            }
        }
        if (answer == null || acting.stream().noneMatch(Rule::truncate)) {
            return true;
        }
        byte[] body = request.getFhirContext()
                .newJsonParser()
                .encodeResourceToString(answer)
                .getBytes(StandardCharsets.UTF_8);
        response.setStatus(200);
        response.setContentType("application/fhir+json;charset=utf-8");
        response.setContentLength(body.length);
        response.setHeader("Connection", "close");
        response.getOutputStream().write(Arrays.copyOf(body, body.length / 2));
        response.flushBuffer();
        return false;
    }

    private static void refuse(Rule rule, RequestDetails request) {
        if (rule.requireBearer() != null
                && !("Bearer " + rule.requireBearer()).equals(request.getHeader("Authorization"))) {
            throw new AuthenticationException(WORDS).addResponseHeader("WWW-Authenticate", "Bearer");
        }
        if (rule.status() != 0) {
            BaseServerResponseException refusal = new UnclassifiedServerFailureException(rule.status(), WORDS);
            if (rule.retryAfter() != null) {
                refusal.addResponseHeader("Retry-After", rule.retryAfter());
            }
            throw refusal;
        }
    }

    private void keep(Seen request) {
        synchronized (seen) {
            seen.addLast(request);
            if (seen.size() > MOST_SEEN) {
                seen.removeFirst();
            }
        }
    }

    /** The first page's request of the search that a page belongs to; null for any other request. */
    private Seen firstOf(RequestDetails request) {
        String[] id = request.getParameters().get("_getpages");
        synchronized (searches) {
            return id == null ? null : searches.get(id[0]);
        }
    }

    private void remember(Bundle bundle, Seen request) {
        Bundle.BundleLinkComponent next = bundle.getLink("next");
        if (next == null || request == null) {
            return;
        }
        String id = UriComponentsBuilder.fromUriString(next.getUrl()).build().getQueryParams().getFirst("_getpages");
        synchronized (searches) {
            searches.putIfAbsent(id, request);
            if (searches.size() > MOST_SEARCHES) {
                searches.remove(searches.keySet().iterator().next());
            }
        }
    }
}
