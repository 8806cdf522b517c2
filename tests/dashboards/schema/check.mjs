// Validates every dashboard against the types of @grafana/schema, as published with Grafana 10, 11, 12 and 13: the
// board itself (`Dashboard`), and for each panel the options and custom field options of its type. A property that the
// types do not contain is an error, since Grafana silently ignores typos.
import Ajv from 'ajv';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import tsj from 'ts-json-schema-generator';

const here = import.meta.dirname;
const folder = path.resolve(here, '../../../dashboards');
const kinds = ['stat', 'timeseries', 'table'];

// Grafana applies defaults, so options and field options are optional, but must not be misspelt.
function withoutRequired(schema) {
  if (Array.isArray(schema)) return schema.map(withoutRequired);
  if (schema === null || typeof schema !== 'object') return schema;
  return Object.fromEntries(Object.entries(schema).filter(([key, value]) => !(key === 'required' && Array.isArray(value))).map(([key, value]) => [key, withoutRequired(value)]));
}

function validator(file, type, partly = true) {
  let schema = tsj.createGenerator({ path: file, type, skipTypeCheck: true, additionalProperties: false, expose: 'all' }).createSchema(type);
  if (partly) schema = withoutRequired(schema);
  return new Ajv({ strict: false, allErrors: true, allowUnionTypes: true }).compile(schema);
}

const work = mkdtempSync(path.join(here, 'types-'));
let passed = 0, failed = 0;
function report(label, errors) {
  if (errors.length) { failed += 1; console.log(`FAIL ${label}`); errors.forEach((one) => console.log(`       ${one}`)); } else { passed += 1; console.log(`ok   ${label}`); }
}
const spoken = (check, value) => (check(value) ? [] : check.errors.filter(({ keyword }) => keyword !== 'anyOf').map(({ instancePath, message, params }) => `${instancePath} ${message} ${params.additionalProperty ?? ''}`));

// The files with the types of one version, copied to where their imports of '@grafana/schema' look for them.
function prepare(version) {
  const folder = path.join(work, version);
  const home = path.join(folder, 'node_modules/@grafana/schema');
  mkdirSync(path.dirname(home), { recursive: true });
  cpSync(path.join(here, 'node_modules', version), home, { recursive: true });
  const files = readdirSync(home, { recursive: true }).filter((name) => name.endsWith('types.gen.d.ts')).sort((one, other) => other.includes('types/raw') - one.includes('types/raw'));
  const find = (part) => `./node_modules/@grafana/schema/${files.find((name) => name.includes(part)).replace(/\.d\.ts$/, '')}`;
  const entry = path.join(folder, 'entry.ts');
  writeFileSync(entry, `
import type { Dashboard as Raw, Panel, RowPanel, VariableModel, AnnotationQuery } from '${find('raw/dashboard/x/')}';
${kinds.map((kind) => `import type { Options as ${kind}Options${kind === 'stat' ? '' : `, FieldConfig as ${kind}Custom`} } from '${find(`raw/composable/${kind}/panelcfg/x/`)}';`).join('\n')}
// What the types leave to the data source, to the panel's type, or undefined.
type Shown = Omit<Panel, 'options' | 'fieldConfig' | 'targets' | 'datasource'> & { options: object; fieldConfig: object; datasource: object; targets: object[] };
export type Board = Omit<Raw, 'panels' | 'annotations' | 'id' | 'templating' | 'snapshot'> & {
  id: null;
  panels: (Shown | RowPanel)[];
  annotations: { list: (Omit<AnnotationQuery, 'target' | 'filter'> & { expr?: string; step?: string; titleFormat?: string; textFormat?: string; tagKeys?: string; useValueForTime?: boolean })[] };
  templating: { list: (VariableModel & { definition?: string; allValue?: string; regex?: string; includeAll?: boolean })[] };
};
export type Fields = NonNullable<Panel['fieldConfig']>;
${kinds.map((kind) => `export type ${kind}Shown = ${kind}Options;${kind === 'stat' ? '' : `\nexport type ${kind}Drawn = ${kind}Custom;`}`).join('\n')}
`);
  return {
    board: validator(entry, 'Board', false),
    fields: validator(entry, 'Fields'),
    options: Object.fromEntries(kinds.map((kind) => [kind, validator(entry, `${kind}Shown`)])),
    custom: Object.fromEntries(['timeseries', 'table'].map((kind) => [kind, validator(entry, `${kind}Drawn`)])),
  };
}

function panelErrors(content, { fields, options, custom }) {
  const errors = [];
  for (const panel of content.panels.filter(({ type }) => type !== 'row')) {
    const say = (what, list) => errors.push(...list.map((one) => `${panel.title}, ${what}: ${one}`));
    say('options', spoken(options[panel.type], panel.options));
    const { custom: drawn, ...defaults } = panel.fieldConfig.defaults;
    say('fieldConfig', spoken(fields, { ...panel.fieldConfig, defaults }));
    if (drawn) say('fieldConfig.defaults.custom', spoken(custom[panel.type], drawn));
    for (const override of panel.fieldConfig.overrides) {
      for (const { id, value } of override.properties) {
        if (id.startsWith('custom.')) say(`override ${id}`, spoken(custom[panel.type], { [id.slice(7)]: value }));
        else say(`override ${id}`, spoken(fields, { defaults: { [id]: value }, overrides: [] }));
      }
    }
  }
  return errors;
}

try {
  const boards = readdirSync(folder).filter((name) => name.endsWith('.json'));
  const read = (name) => JSON.parse(readFileSync(path.join(folder, name), 'utf8'));
  for (const version of ['grafana-10', 'grafana-11', 'grafana-12', 'grafana-13']) {
    const checks = prepare(version);
    for (const name of boards) {
      report(`schema of ${version}: ${name}`, spoken(checks.board, read(name)));
      report(`schema of ${version}: options of the panels of ${name}`, panelErrors(read(name), checks));
    }

    // The schema must find errors: a board with a misspelt property must be refused.
    const sample = read(boards[0]);
    const breakages = {
      'an unknown property of the board': (one) => { one.refesh = '30s'; },
      'a wrong type': (one) => { one.panels[1].gridPos.w = '4'; },
      'an unknown property of a panel': (one) => { one.panels[1].desciption = ''; },
    };
    for (const [what, breaking] of Object.entries(breakages)) {
      const broken = structuredClone(sample);
      breaking(broken);
      report(`schema of ${version} notices ${what}`, checks.board(broken) ? ['not noticed'] : []);
    }
    const shown = sample.panels.find(({ type }) => type === 'timeseries').options;
    report(`schema of ${version} notices an unknown option`, checks.options.timeseries({ ...shown, tooltips: {} }) ? ['not noticed'] : []);
  }
} finally {
  rmSync(work, { recursive: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
