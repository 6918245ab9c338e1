"""Checks the Helm chart: check.py HELM. Prints each check, and exits with 1 if one fails.

- `helm lint --strict` and `helm template`, with the default values and with each example.
- The resources are valid: core resources by the schemas of kubernetes-validate, for the oldest supported version of
  Kubernetes and a recent one; custom resources by the folder `schemas`. Unknown fields are errors.
- The resources fit together: selectors, ports, volumes, certificates, grace periods and autoscalers.
- Pods meet the Pod Security Standard `restricted`, and more.
- The simulation in deploy/sim runs the default rule.
- Each variable C3_* is in docs/reference/configuration.md.
- Each case in contradictions.yaml is refused with its message.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml

TESTS = pathlib.Path(__file__).resolve().parent
CHART = TESTS.parent / "c3-serve"
EXAMPLES = TESTS.parent / "examples"
CONFIGURATION = TESTS.parents[2] / "docs/reference/configuration.md"
# The rule that the simulation runs.
SIMULATED = TESTS.parents[1] / "sim/scaled-object.yaml"
# The oldest version that Chart.yaml allows, and a recent one.
KUBERNETES = ["1.31.0", "1.35.0"]
CUSTOM = {"keda.sh/v1alpha1", "cert-manager.io/v1", "monitoring.coreos.com/v1"}
# Time after the drain timeout in which a server reports calls that it cuts off.
CUT_OFF_SECONDS = 1


def helm(*arguments):
    """Runs helm and returns its exit code, output and errors."""
    result = subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout, result.stderr


def template(*values):
    """Runs `helm template` with files of values."""
    version = ["--kube-version", KUBERNETES[-1], "--namespace", "c3"]
    return helm("template", "c3", CHART, *version, *(word for file in values for word in ("--values", file)))


def validate(resource):
    """Yields the violations of the resource's schema."""
    if resource["apiVersion"] in CUSTOM:
        schema = json.loads((TESTS / f"schemas/{resource['kind'].lower()}.json").read_text())
        for error in jsonschema.Draft202012Validator(schema).iter_errors(resource):
            yield f"{error.json_path}: {error.message}"
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def matches(selector, labels):
    return selector.items() <= labels.items()


def check_pod(spec, variables):
    """Yields violations of pod security, of mounts, and of the grace period."""
    containers = spec["containers"] + spec.get("initContainers", [])
    pod = spec["securityContext"]
    if not pod["runAsNonRoot"] or pod["runAsUser"] != 10001 or pod["seccompProfile"] != {"type": "RuntimeDefault"}:
        yield "the pod runs as root or without seccomp"
    if spec["automountServiceAccountToken"]:
        yield "the pod has the token of its service account"
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in containers:
        security = container["securityContext"]
        if security["allowPrivilegeEscalation"] or security["capabilities"] != {"drop": ["ALL"]}:
            yield f"container {container['name']} has privileges"
        if not security["readOnlyRootFilesystem"]:
            yield f"container {container['name']} can write to its root file system"
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                yield f"container {container['name']} mounts {mount['name']}, which is no volume"
        names = [variable["name"] for variable in container["env"]]
        if len(names) != len(set(names)):
            yield f"container {container['name']} sets a variable twice"
    server = spec["containers"][0]
    env = {variable["name"]: variable.get("value", "") for variable in server["env"]}
    for name in env:
        if name.startswith("C3_") and name not in variables:
            yield f"{name} is not in {CONFIGURATION.name}"
    # A path outside of the mounts would be one of the image.
    mounts = tuple(mount["mountPath"] for mount in server["volumeMounts"])
    for name in ("C3_TLS_CERT", "C3_TLS_KEY", "C3_TLS_CA", "C3_ACCESS"):
        if name in env and not env[name].startswith(mounts):
            yield f"{name}: nothing is mounted at {env[name]}"
    if env.get("C3_DATA", "").startswith("/") and not env["C3_DATA"].startswith(mounts):
        yield "the store is not on a volume"
    sleep = server.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    drain = [env.get(name) for name in ("C3_SHUTDOWN_DELAY", "C3_DRAIN_TIMEOUT")]
    if None in drain:
        yield "the program's drain is not set"
    elif spec["terminationGracePeriodSeconds"] < sleep + sum(int(d.removesuffix("s")) for d in drain) + CUT_OFF_SECONDS:
        yield "the grace period is shorter than the drain"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        scheme = "HTTPS" if "C3_TLS_CERT" in env else "HTTP"
        if "httpGet" in server[probe] and server[probe]["httpGet"]["scheme"] != scheme:
            yield f"{probe} does not use {scheme}"


def check_autoscaler(scaler, deployments):
    """Yields violations of an autoscaler: its target, its triggers and its behaviour."""
    spec = scaler["spec"]
    target = deployments.get(spec["scaleTargetRef"]["name"])
    if target is None or "replicas" in target["spec"]:
        yield "the target is missing, or sets its replicas itself"
        return
    labels = target["spec"]["template"]["metadata"]["labels"]
    if scaler["kind"] == "HorizontalPodAutoscaler":
        found = {metric["external"]["metric"]["name"] for metric in spec["metrics"]}
        behavior = spec["behavior"]
    else:
        queries = [trigger for trigger in spec["triggers"] if trigger["type"] == "prometheus"]
        found = set(re.findall(r"c3_\w+", " ".join(trigger["metadata"]["query"] for trigger in queries)))
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for trigger in queries:
            query = trigger["metadata"]["query"]
            for label in ("stage", "cascade"):
                if f'{label}="{labels[f"c3-serve/{label}"]}"' not in query:
                    yield f"a query is not about the {label} of the target"
            if query.count("(") != query.count(")") or trigger["metricType"] != "AverageValue":
                yield "a trigger is malformed"
            if float(trigger["metadata"]["threshold"]) <= 0:
                yield "a threshold is not positive"
    if found != {"c3_stage_backlog_seconds", "c3_stage_busy_nodes"}:
        yield f"the metrics are {sorted(found)}"
    if behavior["scaleDown"]["stabilizationWindowSeconds"] <= behavior["scaleUp"]["stabilizationWindowSeconds"]:
        yield "scaling down is as fast as scaling up"


def check_simulation():
    """Yields differences between the rule that deploy/sim simulates and the default values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["autoscaling"]
    for scaler in yaml.safe_load_all(SIMULATED.read_text()):
        spec, name = scaler["spec"], scaler["metadata"]["name"]
        if spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] != values["behavior"]:
            yield f"{name}: the behaviour differs from the values"
        thresholds = [float(trigger["metadata"]["threshold"]) for trigger in spec["triggers"]]
        if thresholds != [values["backlogSeconds"], values["busyShare"]]:
            yield f"{name}: the thresholds {thresholds} differ from the values"


def check_services(resources, deployments):
    """Yields Services without pods, with ports that pods lack, and with hosts that no certificate has."""
    pods = [deployment["spec"]["template"] for deployment in deployments.values()]
    services = {name: service for (kind, name), service in resources.items() if kind == "Service"}
    for name, service in services.items():
        selected = [pod for pod in pods if matches(service["spec"]["selector"], pod["metadata"]["labels"])]
        if len(selected) != 1:
            yield f"Service {name} selects the pods of {len(selected)} Deployments"
            continue
        ports = {port["name"] for port in selected[0]["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"Service {name}: no container has the port {port['targetPort']}"
    certificates = [resource for (kind, _), resource in resources.items() if kind == "Certificate"]
    names = {name for certificate in certificates for name in certificate["spec"].get("dnsNames", [])}
    for deployment in deployments.values():
        env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        for variable in env:
            if variable["name"] not in ("C3_COMPRESSORS", "C3_DECODERS"):
                continue
            for url in variable["value"].split(","):
                scheme, host, port = re.fullmatch(r"(dnss?)://([^:]+):(\d+)", url).groups()
                service = services.get(host.split(".")[0])
                if service is None or service["spec"]["ports"][0]["port"] != int(port):
                    yield f"{url} is no Service"
                if scheme == "dnss" and certificates and host not in names:
                    yield f"no certificate has the name {host}"
                if (scheme == "dns") != any(v["name"] == "C3_INSECURE" for v in env):
                    yield f"{url}: the scheme does not fit the mode of TLS"
    for (kind, name), monitor in resources.items():
        if kind == "ServiceMonitor":
            selector = monitor["spec"]["selector"]["matchLabels"]
            scraped = {s for s, service in services.items() if matches(selector, service["metadata"]["labels"])}
            if len(scraped) != len(deployments):
                yield f"ServiceMonitor {name} selects {sorted(scraped)}"


def check_policies(resources, deployments):
    """Yields nodes that others than gateways may call."""
    policies = [resource for (kind, _), resource in resources.items() if kind == "NetworkPolicy"]
    for name, deployment in deployments.items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        of_pod = [policy for policy in policies if matches(policy["spec"]["podSelector"]["matchLabels"], labels)]
        if len(of_pod) != 1:
            yield f"{name} has {len(of_pod)} NetworkPolicies"
            continue
        if labels["app.kubernetes.io/component"] == "gateway":
            continue
        for rule in of_pod[0]["spec"]["ingress"]:
            peers = [peer.get("podSelector", {}).get("matchLabels", {}) for peer in rule.get("from", [{}])]
            ports = {port["port"] for port in rule["ports"]}
            if "api" in ports and any(peer.get("app.kubernetes.io/component") != "gateway" for peer in peers):
                yield f"{name}: others than gateways may call it"


def check_resources(text, variables):
    """Yields everything that is wrong with the output of `helm template`."""
    documents = [document for document in yaml.safe_load_all(text) if document]
    resources = {(document["kind"], document["metadata"]["name"]): document for document in documents}
    if len(resources) != len(documents):
        yield "two resources have the same kind and name"
    deployments = {name: resource for (kind, name), resource in resources.items() if kind == "Deployment"}
    for (kind, name), resource in resources.items():
        problems = list(validate(resource))
        if len(name) > 63:
            problems.append("the name has more than 63 characters")
        # The other checks expect the fields that the schema requires.
        if kind == "Deployment" and not problems:
            problems += check_pod(resource["spec"]["template"]["spec"], variables)
            if ("PodDisruptionBudget", name) not in resources:
                problems.append("it has no PodDisruptionBudget")
        if kind in ("ScaledObject", "HorizontalPodAutoscaler"):
            problems += check_autoscaler(resource, deployments)
        yield from (f"{kind} {name}: {problem}" for problem in problems)
    yield from check_services(resources, deployments)
    yield from check_policies(resources, deployments)


def check_case(case, folder):
    """Yields how the refusal of contradictory values differs from the expected one."""
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump(case["values"]))
    base = [EXAMPLES / f"{case['base']}.yaml"] if "base" in case else []
    code, _, errors = template(*base, values)
    if code == 0:
        yield "helm template accepts the values"
    elif case["message"] not in errors:
        yield f"helm template says: {errors.strip()}"
    elif "execution error" in errors and len(errors.replace("\n\nUse --debug", "").strip().splitlines()) > 2:
        yield f"the message has several lines: {errors.strip()}"


def main():
    variables = set(re.findall(r"C3_[A-Z_0-9]+", CONFIGURATION.read_text()))
    failures = 0

    def report(name, problems):
        nonlocal failures
        problems = list(problems)
        failures += len(problems)
        print(f"{'FAILED' if problems else 'ok':6} {name}", *(f"       {problem}" for problem in problems), sep="\n")

    print(f"{sys.argv[1]} {helm('version', '--short')[1].strip()}, Kubernetes {' and '.join(KUBERNETES)}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        hpa = folder / "hpa.yaml"
        hpa.write_text(yaml.safe_dump({"autoscaling": {"engine": "hpa"}}))
        files = sorted(EXAMPLES.glob("*.yaml"))
        runs = {"the default values": [], "two-pools.yaml with engine hpa": [EXAMPLES / "two-pools.yaml", hpa]}
        runs |= {file.name: [file] for file in files}
        for name, values in runs.items():
            lint = ["--strict", *(word for file in values for word in ("--values", file))]
            code, output, errors = helm("lint", CHART, *lint)
            report(f"helm lint, {name}", [output + errors] if code else [])
            code, output, errors = template(*values)
            report(f"resources, {name}", [errors] if code else check_resources(output, variables))
        report("deploy/sim has the default rule", check_simulation())
        for case in yaml.safe_load((TESTS / "contradictions.yaml").read_text()):
            report(f"refused: {case['message']}", check_case(case, folder))
    if failures:
        sys.exit(f"{failures} problems")


main()
