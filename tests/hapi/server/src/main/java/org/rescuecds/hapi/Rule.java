package org.rescuecds.hapi;

/**
 * What the server does to the requests that {@code match}: all rules that match act, in the order they were given.
 *
 * @param id given by the server, so that a test can take back its own rules
 * @param match which requests; null: all of them
 * @param times how many requests it acts on; 0: any number
 * @param latencyMs milliseconds to wait first
 * @param status answer with this status and an OperationOutcome instead; 0: do not
 * @param retryAfter value of the Retry-After header that goes with {@code status}; null: no header
 * @param requireBearer answer 401 unless the request brings exactly this token; null: none is asked for
 * @param html answer 200 with a web page, as a proxy or a login form does
 * @param truncate cut the body in the middle and close the connection
 * @param withoutTotal leave {@code Bundle.total} out
 */
public record Rule(
        String id,
        Match match,
        int times,
        long latencyMs,
        int status,
        String retryAfter,
        String requireBearer,
        boolean html,
        boolean truncate,
        boolean withoutTotal) {

    /**
     * Which requests a rule acts on; what is null is not looked at.
     *
     * @param method HTTP method
     * @param type resource type of the address
     * @param patient id of the patient who is read, or whose resources are searched
     * @param contains text that occurs in the decoded path and parameters, for example a code
     * @param page true: only the further pages of a search; false: only what is no further page
     */
    public record Match(String method, String type, String patient, String contains, Boolean page) {

        boolean covers(Seen seen) {
            return (method == null || method.equalsIgnoreCase(seen.method()))
                    && (type == null || type.equals(seen.type()))
                    && (patient == null || seen.patients().contains(patient))
                    && (contains == null || seen.text().contains(contains))
                    && (page == null || page == seen.page());
        }
    }

    Rule named(String name) {
        return new Rule(
                name, match, times, latencyMs, status, retryAfter, requireBearer, html, truncate, withoutTotal);
    }
}
