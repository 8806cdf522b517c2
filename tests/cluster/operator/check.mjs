// Validates objects of the Prometheus and Grafana operators:
//
//   node check.mjs FILE     a JSON list of {from, object}
//
// The schemas of @kubernetes-models find missing fields and wrong types but accept unknown fields;
// its TypeScript interfaces find those. Prints one line "ok" or "FAIL" per object. Run it in a folder with
// the packages of package.json.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import ts from "typescript";

const prometheus = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";
const modules = {
  PodMonitor: `${prometheus}/PodMonitor`,
  ServiceMonitor: `${prometheus}/ServiceMonitor`,
  PrometheusRule: `${prometheus}/PrometheusRule`,
  GrafanaDashboard: "@kubernetes-models/grafana-operator/grafana.integreatly.org/v1beta1/GrafanaDashboard",
};
const models = {};
for (const [kind, module] of Object.entries(modules)) models[kind] = (await import(module))[kind];
const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));

/** The compiler's complaints about each object as a literal of its interface, by the object's index. */
function unknownFields() {
  const file = new URL("objects.ts", import.meta.url).pathname;
  const imports = Object.entries(modules).map(([kind, module]) => `import type { I${kind} } from "${module}";`);
  const lines = cases.map(
    ({ object }, place) => `export const o${place}: I${object.kind} = ${JSON.stringify(object)};`,
  );
  writeFileSync(file, [...imports, ...lines].join("\n"));
  const program = ts.createProgram([file], {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  });
  const found = new Map();
  for (const diagnostic of ts.getPreEmitDiagnostics(program)) {
    const place = diagnostic.file
      ? diagnostic.file.getLineAndCharacterOfPosition(diagnostic.start).line - imports.length
      : -1;
    const text = ts.flattenDiagnosticMessageText(diagnostic.messageText, " ");
    found.set(place, [...(found.get(place) ?? []), text]);
  }
  rmSync(file);
  return found;
}

const unknown = unknownFields();
for (const complaint of unknown.get(-1) ?? []) console.log(`FAIL the compiler: ${complaint}`);
cases.forEach(({ from, object }, place) => {
  const complaints = [...(unknown.get(place) ?? [])];
  try {
    new models[object.kind](object).validate();
  } catch (error) {
    complaints.push(error.message);
  }
  console.log(complaints.length === 0 ? `ok ${from}` : `FAIL ${from}: ${complaints.join("; ")}`);
});
