/** The files of deploy/: they parse, and what they say agrees with the program and with each other. */
import assert from "node:assert/strict";
import { parse, parseAllDocuments } from "yaml";
import { type CommandName, type Flags, helpText, parseFlags } from "@/cli/flags.ts";
import type { MetricSpec } from "@/telemetry/metric_names.ts";
import { root } from "../server/server_process.ts";
import { optionalTest, probeCommand } from "../skip.ts";
import { type Image, images } from "./images.ts";

const read = (name: string) => Deno.readTextFile(`${root}deploy/${name}`);

/** Parsed YAML: tests look at what they know. */
// deno-lint-ignore no-explicit-any
type Yaml = any;

/** All containers of ours, with their flags parsed as the program will parse them. */
function flagsOf(image: Image, args: readonly string[]): Flags {
  const filled = args.map((arg) =>
    arg.replaceAll("$(POD_NAME)", "pod-0").replace(/\$\{\w+:-(\w+)\}/g, "$1")
  );
  const flags = parseFlags(image.command, [...image.args, ...filled]);
  assert.deepEqual(flags.positionals, [], "nothing but flags");
  return flags;
}

Deno.test("images listen on the port that they expose and probe", async () => {
  const all = await images();
  assert.deepEqual([...all.keys()], ["flotilla-shard", "flotilla"]);
  for (const [name, image] of all) {
    const flags = flagsOf(image, []);
    const port = flags.number("port") ?? Number(flags.string("listen")?.split(":")[1]);
    assert.equal(port, image.port, name);
    assert.ok(image.health.includes(`${image.port}`), name);
  }
  assert.equal([...all.values()].at(-1)!.target, "server", "what is built by default");
});

Deno.test("compose.yaml starts NATS, three shards and a front that find each other", async () => {
  const compose: Yaml = parse(await read("compose.yaml"), { merge: true });
  const all = await images();
  const { services } = compose;
  const natsPort = services.nats.command[services.nats.command.indexOf("--port") + 1];
  const shards = Object.keys(services).filter((name) => services[name].image === "flotilla-shard");
  assert.equal(shards.length, 3);
  assert.equal(new Set(shards.map((name) => services[name].hostname)).size, 3, "names differ");
  for (const name of [...shards, "front"]) {
    const { image, command, secrets, volumes, build, stop_grace_period: grace } = services[name];
    const { command: role, target } = all.get(image)!;
    const flags = flagsOf(all.get(image)!, command);
    const rendezvous = flags.string(role === "shard" ? "join" : "cluster");
    assert.equal(rendezvous, `nats://nats:${natsPort}/flotilla`);
    assert.equal(build.target, target);
    for (const flag of ["secret-file", "api-key-file"]) {
      const path = flags.string(flag);
      if (path) assert.ok(secrets.includes(path.replace("/run/secrets/", "")), `${name} ${path}`);
    }
    for (const secret of secrets) assert.ok(compose.secrets[secret], secret);
    const folder = flags.list("model")[0]!.replace(/^\w+=/, "");
    assert.ok(volumes.some((volume: string) => volume.endsWith(`:${folder}:ro`)), name);
    assert.ok(parseInt(grace) > (flags.number("drain-seconds") ?? 10), "time to drain");
    for (const volume of volumes) {
      const [source] = volume.split(":");
      assert.ok(source.startsWith("$") || source in compose.volumes, volume);
    }
    assert.ok(services[name].read_only && services[name].cap_drop[0] === "ALL");
  }
  assert.equal(flagsOf(all.get("flotilla")!, services.front.command).number("replicas"), 2);
});

/** Documents of the Kubernetes file by kind and name. */
async function kubernetes(): Promise<Map<string, Yaml>> {
  const documents = parseAllDocuments(await read("kubernetes/cluster.yaml"));
  return new Map(documents.map((document) => {
    assert.deepEqual(document.errors, []);
    const value: Yaml = document.toJS();
    return [`${value.kind}/${value.metadata.name}`, value];
  }));
}

const controllers = ["StatefulSet/nats", "StatefulSet/flotilla-shard", "Deployment/flotilla-front"];

Deno.test("Kubernetes: services, budgets and policies select the pods they mean", async () => {
  const all = await kubernetes();
  for (const name of controllers) {
    const { spec } = all.get(name)!;
    const { labels } = spec.template.metadata;
    assert.deepEqual(spec.selector.matchLabels, labels, name);
    if (name.startsWith("StatefulSet")) {
      const service = all.get(`Service/${spec.serviceName}`)!;
      assert.deepEqual([service.spec.clusterIP, service.spec.selector], ["None", labels]);
    }
    const volumes = [...spec.template.spec.volumes ?? [], ...spec.volumeClaimTemplates ?? []]
      .map((volume: Yaml) => volume.name ?? volume.metadata.name);
    for (const { volumeMounts, ports, ...container } of spec.template.spec.containers) {
      for (const mount of volumeMounts) assert.ok(volumes.includes(mount.name), mount.name);
      const names = ports.map((port: Yaml) => port.name);
      for (const probe of ["startupProbe", "readinessProbe", "livenessProbe"]) {
        const { httpGet, tcpSocket } = container[probe] ?? {};
        const port = (httpGet ?? tcpSocket)?.port;
        assert.ok(port === undefined || names.includes(port), `${name} ${probe}`);
      }
      assert.ok(container.readinessProbe && container.livenessProbe, name);
      const { allowPrivilegeEscalation, readOnlyRootFilesystem } = container.securityContext;
      assert.deepEqual([allowPrivilegeEscalation, readOnlyRootFilesystem], [false, true], name);
    }
    assert.equal(spec.template.spec.securityContext.runAsNonRoot, true);
  }
  const apps = controllers.map((name) => all.get(name)!.spec.template.metadata.labels.app);
  const containerPorts = (app: string) =>
    all.get(controllers[apps.indexOf(app)]!)!.spec.template.spec.containers[0].ports
      .map((port: Yaml) => port.name);
  for (const [name, { spec }] of all) {
    if (name.startsWith("Service/")) {
      for (const { targetPort } of spec.ports) {
        assert.ok(containerPorts(spec.selector.app).includes(targetPort), name);
      }
    }
    const selected = spec.selector?.matchLabels ?? spec.podSelector?.matchLabels;
    if (selected) assert.ok(apps.includes(selected.app), name);
    if (name.startsWith("NetworkPolicy/")) {
      const [{ ports }] = spec.ingress;
      assert.ok(containerPorts(spec.podSelector.matchLabels.app).includes(ports[0].port), name);
    }
  }
});

Deno.test("Kubernetes: containers get flags that exist, and files, ports and time for them", async () => {
  const all = await kubernetes();
  const known = await images();
  const nats = all.get("Service/nats")!.spec.ports[0].port;
  for (const name of controllers.slice(1)) {
    const { spec } = all.get(name)!.spec.template;
    const [container] = spec.containers;
    const image = known.get(container.image)!;
    const flags = flagsOf(image, container.args);
    assert.equal(container.ports[0].containerPort, image.port, name);
    const rendezvous = flags.string(image.command === "shard" ? "join" : "cluster");
    assert.equal(rendezvous, `nats://nats:${nats}/flotilla`);
    const mounts = container.volumeMounts.map((mount: Yaml) => mount.mountPath);
    for (const flag of ["secret-file", "api-key-file"]) {
      const path = flags.string(flag);
      if (path) assert.ok(mounts.some((mount: string) => path.startsWith(`${mount}/`)), path);
    }
    assert.ok(mounts.includes(flags.list("model")[0]!.replace(/^\w+=/, "")));
    const preStop = container.lifecycle?.preStop.sleep.seconds ?? 0;
    const drain = preStop + (flags.number("drain-seconds") ?? 10);
    assert.ok(spec.terminationGracePeriodSeconds > drain, `${name} has time to drain`);
  }
  const shard = all.get("StatefulSet/flotilla-shard")!.spec.template.spec.containers[0];
  const flags = flagsOf(known.get("flotilla-shard")!, shard.args);
  assert.equal(flags.string("advertise"), "pod-0.flotilla-shard:7070", "pod, service, port");
  const mib = 1024 * parseInt(shard.resources.limits.memory);
  assert.ok(mib >= flags.number("expert-mib")! + 512, "memory beside the experts");
});

/** Flags in ExecStart and in the example of the environment file. */
function unitFlags(text: string): { command: CommandName; flags: Flags } {
  const start = /^ExecStart=.* src\/main\.ts (.*)$/m.exec(text)![1]!;
  const example = /^# FLOTILLA_\w+=(.*)$/m.exec(text)![1]!;
  const [command, ...args] = start.replace(/\$FLOTILLA_\w+/, example).split(" ");
  return { command: command as CommandName, flags: parseFlags(command as CommandName, args) };
}

const units = ["flotilla.service", "flotilla-front.service", "flotilla-shard.service"];

Deno.test("systemd units give flags that exist and wait for what they stop", async () => {
  const hardening = new Set<string>();
  for (const name of units) {
    const text = await read(name);
    const { command, flags } = unitFlags(text);
    assert.equal(command, name === "flotilla-shard.service" ? "shard" : "serve");
    const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(text)![1]);
    assert.ok(stop > (flags.number("drain-seconds") ?? 10), name);
    const file = flags.string("secret-file");
    if (file) {
      const credential = file.replace("${CREDENTIALS_DIRECTORY}/", "");
      assert.match(text, new RegExp(`^LoadCredential=${credential}:`, "m"));
    }
    hardening.add(/^NoNewPrivileges[^]*?^UMask=\S+$/m.exec(text)![0]);
  }
  assert.equal(hardening.size, 1, "all units are hardened alike");
});

const analyze = await probeCommand("systemd-analyze");

optionalTest({ name: "systemd accepts the units", needs: [analyze] }, async () => {
  for (const name of units) {
    const { stderr } = await new Deno.Command(analyze.command!, {
      args: ["verify", `${root}deploy/${name}`],
    }).output();
    const complaints = new TextDecoder().decode(stderr).split("\n")
      // Deno need not be installed where the tests run.
      .filter((line) => line !== "" && !/deno is not executable/.test(line));
    assert.deepEqual(complaints, [], name);
  }
});

Deno.test("the runbook's commands and metrics exist", async () => {
  const text = await read("RUNBOOK.md");
  const { metricSpecs } = await import("@/telemetry/metric_names.ts");
  for (const [name] of text.matchAll(/flotilla_\w+/g)) assert.ok(name in metricSpecs, name);
  for (const [, command, rest] of text.matchAll(/deno task (\w+)((?: [^`\n]*)?)/g)) {
    const words = rest!.split(" ").filter((word) => /^--?\w/.test(word));
    const flags = parseFlags.bind(undefined, command as CommandName);
    for (const word of words) {
      assert.ok(helpOf(command as CommandName).includes(`${word} `), `${command} ${word}`);
    }
    assert.doesNotThrow(() => flags([]));
  }
});

Deno.test("alerts name metrics, labels and chapters of the runbook that exist", async () => {
  const { metricSpecs } = await import("@/telemetry/metric_names.ts");
  const specs = metricSpecs as Readonly<Record<string, MetricSpec>>;
  const chapters = [...(await read("RUNBOOK.md")).matchAll(/^## (.*)$/gm)].map(([, title]) =>
    title!.toLowerCase().replace(/[^a-z0-9 -]/g, "").replaceAll(" ", "-")
  );
  const { groups }: Yaml = parse(await read("prometheus.rules.yaml"));
  const { rules } = groups[0];
  assert.ok(rules.length >= 8);
  for (const { alert, expr, annotations } of rules) {
    const used = [...expr.matchAll(/(flotilla_\w+?)(_bucket)?(?:\{(\w+)="\w+"\})?(?=[[\s)])/g)];
    assert.ok(used.length > 0, alert);
    for (const [, name, bucket, label] of used) {
      const spec = specs[name];
      assert.ok(spec && (spec.type === "histogram") === (bucket !== undefined), `${alert} ${name}`);
      assert.ok(label === undefined || spec.labels?.includes(label), `${alert} ${label}`);
    }
    const [file, chapter] = annotations.runbook.split("#");
    assert.equal(file, "deploy/RUNBOOK.md");
    assert.ok(chapters.includes(chapter), `${alert}: ${chapter} of ${chapters}`);
  }
});

function helpOf(command: CommandName): string {
  return `${helpText(command)} `;
}
