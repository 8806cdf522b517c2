// Holds objects of monitoring.coreos.com/v1 against the operator's definitions:
//
//   node check.mjs FILE     a JSON list of {from, object}
//
// The schemas of @kubernetes-models find what is missing or of a wrong type, but let unknown fields pass;
// its TypeScript interfaces find those. One line "ok" or "FAIL" for each object. Run from a folder that has
// the packages of package.json.
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { PodMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor";
import { PrometheusRule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";
import ts from "typescript";

const models = { PodMonitor, PrometheusRule };
const cases = JSON.parse(readFileSync(process.argv[2], "utf8"));

/** What the compiler says of each object as a literal of its interface, by the object's place. */
function unknownFields() {
  const file = new URL("objects.ts", import.meta.url).pathname;
  const imports = Object.keys(models).map(
    (kind) =>
      `import type { I${kind} } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/${kind}";`,
  );
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
