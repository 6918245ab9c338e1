#!/usr/bin/env python3
"""Makes the Grafana dashboards (NAME.json) from their sources (NAME.toml).

A source lists rows of panels: title, description, unit and queries. `NS` in a query stands for the filters of the
dashboard's variables `namespace` and `instance`. A panel with `alert = "NAME"` has the thresholds of that alert.

    deploy/dashboards/generate.py            # writes the JSON files
    deploy/dashboards/generate.py --check    # fails if they differ from their sources

Needs only Python 3.11. The output suits Grafana 11 and 12.
"""

import json
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RULES = FOLDER.parent / "alerts/c3-serve.yaml"
FILTER = 'namespace=~"$namespace", instance=~"$instance"'
# For recorded series, which have no instance.
RECORDED_FILTER = 'namespace=~"$namespace"'
COLOURS = {"page": "red", "ticket": "orange"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Query that lists the values of each variable, besides the datasource.
VARIABLES = {
    "namespace": ("Namespace", "label_values(c3_build_info, namespace)"),
    "instance": ("Instance", 'label_values(c3_build_info{namespace=~"$namespace"}, instance)'),
    "stage": ("Stage", 'label_values(c3_node_ready{namespace=~"$namespace"}, stage)'),
    "cascade": ("Cascade", 'label_values(c3_stage_ready_nodes{namespace=~"$namespace"}, cascade)'),
    "tenant": ("Tenant", 'label_values(c3_text_tokens_total{namespace=~"$namespace"}, tenant)'),
}
WIDTH = 24
HEIGHT = 8


@dataclass
class Alert:
    """An alerting rule."""

    name: str
    expression: str
    labels: dict
    annotations: dict

    @property
    def severity(self):
        return self.labels.get("severity", "")

    @property
    def threshold(self):
        """The comparison with which the expression begins, such as `("<", 0.05)`."""
        outside = re.sub(r"\{[^}]*\}", "", self.expression)
        operator, value = re.search(r"([<>]=?) (\d+(?:\.\d+)?)", outside).groups()
        return operator[0], float(value)


def read_rules():
    """Yields the lines of each rule. Python's standard library has no YAML, but the file has a regular form."""
    rule = []
    for line in RULES.read_text().splitlines():
        if line.strip().startswith("#") or not line.strip():
            continue
        if re.match(r"      - (alert|record): ", line) or line.startswith("  - name: "):
            if rule:
                yield rule
            rule = [] if line.startswith("  - ") else [line]
        elif rule:
            rule.append(line)
    yield rule


def read_expression(rule):
    lines = rule[next(i for i, line in enumerate(rule) if line.startswith("        expr:")):]
    more = [line for line in lines[1:] if line.startswith(" " * 10)]
    end = next((i for i, line in enumerate(lines[1:]) if not line.startswith(" " * 10)), len(more))
    first = lines[0].split("expr:", 1)[1].strip()
    return "\n".join([first.strip("|"), *(line.strip() for line in more[:end])]).strip()


def read_expressions():
    """Returns the expressions of all rules."""
    return [read_expression(rule) for rule in read_rules()]


def read_alerts():
    """Returns all alerting rules."""
    alerts, anchors = [], {}
    for rule in read_rules():
        if not rule[0].strip().startswith("- alert: "):
            continue
        text = "\n".join(rule)
        labels = dict(re.findall(r"(\w+): (\w+)", re.search(r"labels: \{(.*)\}", text)[1]))
        head, body = re.search(r"        annotations:(.*)((?:\n.*)*)", text).groups()
        annotations = dict(re.findall(r"^          (\w+): (.*)$", body, re.MULTILINE))
        if head.strip().startswith("&"):
            anchors[head.strip()[1:]] = annotations
        elif head.strip().startswith("*"):
            annotations = anchors[head.strip()[1:]]
        alerts.append(Alert(rule[0].split(": ")[1], read_expression(rule), labels, annotations))
    return alerts


def thresholds(name, labels, alerts):
    """Returns the threshold steps of a panel that shows the value of the alert `name`: of its rules that have these
    labels and no others, besides the severity."""
    rules = [alert for alert in alerts if alert.name == name and alert.labels == labels | {"severity": alert.severity}]
    if not rules:
        raise ValueError(f"no rule {name} has the labels {labels}")
    operator = rules[0].threshold[0]
    colours = {}
    # If a ticket and a page have the same threshold, the page counts.
    for rule in sorted(rules, key=lambda rule: rule.severity, reverse=True):
        colours[rule.threshold[1]] = COLOURS[rule.severity]
    ordered = sorted(colours.items())
    if operator == ">":
        steps = [(None, "green"), *ordered]
    else:
        # Below each value, the colour is that of its severity; above the last one it is green.
        colours = [colour for _, colour in ordered]
        steps = list(zip([None, *(value for value, _ in ordered)], [*colours, "green"]))
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def target(query, legend, index):
    expression = query.replace("NSR", RECORDED_FILTER).replace("NS", FILTER)
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        # Points that lead to the traces of single calls.
        "exemplar": "histogram_quantile(" in query,
        "expr": expression,
        "legendFormat": legend,
        "range": True,
        "refId": chr(ord("A") + index),
    }


def panel(source, number, position, alerts):
    queries = source["queries"]
    kind = source.get("type", "timeseries")
    defaults = {"unit": source["unit"], "min": source.get("min", 0)}
    if "max" in source:
        defaults["max"] = source["max"]
    if "alert" in source:
        defaults["thresholds"] = thresholds(source["alert"], source.get("alert_labels", {}), alerts)
        defaults["color"] = {"mode": "thresholds" if kind == "stat" else "palette-classic"}
    if kind == "timeseries":
        style = "line" if "alert" in source else "off"
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "thresholdsStyle": {"mode": style}}
        options = {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "textMode": "value_and_name"}
    description = source["description"]
    if "alert" in source:
        description += f" Lines: thresholds of the alert {source['alert']}."
    return {
        "id": number,
        "type": kind,
        "title": source["title"],
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": position,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [target(query, legend, index) for index, (legend, query) in enumerate(queries.items())],
    }


def variable(name):
    label, query = VARIABLES[name]
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        # Also matches series without the label.
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, source, alerts):
    """Returns a dashboard as Grafana's JSON model."""
    panels, number, y = [], 0, 0
    for row in source["row"]:
        number += 1
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        panels.append({"id": number, "type": "row", "title": row["title"], "collapsed": False, "gridPos": place,
                       "panels": []})
        y += 1
        height, x = row.get("height", HEIGHT), 0
        for item in row["panel"]:
            width = item.get("width", WIDTH // len(row["panel"]))
            if x + width > WIDTH:
                x, y = 0, y + height
            number += 1
            panels.append(panel(item, number, {"h": height, "w": width, "x": x, "y": y}, alerts))
            x += width
        y += height
    links = {"title": "C3 Serve", "type": "dashboards", "tags": ["c3-serve"], "asDropdown": True, "includeVars": True,
             "keepTime": True}
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus",
                  "refresh": 1, "current": {}}
    return {
        "uid": f"c3-serve-{name}",
        "title": source["title"],
        "description": source["description"],
        "tags": ["c3-serve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "links": [links],
        "annotations": {"list": []},
        "templating": {"list": [datasource, *map(variable, source["variables"])]},
        "panels": panels,
    }


def render():
    """Returns the content of each JSON file."""
    alerts = read_alerts()
    for path in sorted(FOLDER.glob("*.toml")):
        made = dashboard(path.stem, tomllib.loads(path.read_text()), alerts)
        yield path.with_suffix(".json"), json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def check():
    """Yields the files that differ from their sources."""
    made = dict(render())
    for path in made.keys() | set(FOLDER.glob("*.json")):
        if not path.is_file() or path.read_text() != made.get(path):
            yield f"{path.name} differs from its source: run deploy/dashboards/generate.py"


def main():
    if sys.argv[1:] == ["--check"]:
        problems = list(check())
        print("\n".join(problems) or "the dashboards match their sources")
        return bool(problems)
    for path, text in render():
        path.write_text(text)
    return False


if __name__ == "__main__":
    sys.exit(main())
