package org.rescuecds.hapi;

import java.util.List;
import org.springframework.http.MediaType;
import org.springframework.web.bind.annotation.DeleteMapping;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RestController;

/** What tests ask of the server beside FHIR: rules given, listed and taken back, and the requests it saw. */
@RestController
@RequestMapping("/test")
public class Control {

    private final Faults faults;

    public Control(Faults faults) {
        this.faults = faults;
    }

    /** @return the ids of the rules */
    @PostMapping(path = "/rules", consumes = MediaType.APPLICATION_JSON_VALUE)
    public List<String> add(@RequestBody List<Rule> rules) {
        return faults.add(rules);
    }

    @GetMapping("/rules")
    public List<Rule> rules() {
        return faults.rules();
    }

    @DeleteMapping("/rules")
    public void removeAll() {
        faults.removeAll();
    }

    @DeleteMapping("/rules/{id}")
    public void remove(@PathVariable("id") String id) {
        faults.remove(id);
    }

    @GetMapping("/requests")
    public List<Seen> seen() {
        return faults.seen();
    }

    @DeleteMapping("/requests")
    public void forget() {
        faults.forget();
    }
}
