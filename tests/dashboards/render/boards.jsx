// Draws one dashboard with Grafana's published components: PanelChrome, BigValue, TimeSeries, TableNG.
//
// The parts of a Grafana server that these two boards need are implemented here: variables, time range, queries to
// Prometheus, the transformations `merge` and `organize`. Annotations, tooltips and links are not drawn. All errors
// are added to window.problems for render.mjs.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, cacheFieldDisplayNames, createTheme, dateTime, FieldType, getDisplayProcessor, Registry, reduceField, standardTransformers,
  standardTransformersRegistry, ThemeContext, toDataFrame, transformDataFrame,
} from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueJustifyMode, BigValueTextMode, GlobalStyles, PanelChrome, PanelContextProvider, TimeSeries } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { EventBusSrv } from '@grafana/data';
import { firstValueFrom } from 'rxjs';

const asked = new URLSearchParams(window.location.search);
const prometheus = asked.get('prometheus');
const theme = createTheme({ colors: { mode: asked.get('theme') } });
const to = Number(asked.get('to'));
const from = to - Number(asked.get('seconds')) * 1000;
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const COLUMN = 1600 / 24;
const ROW = 38;
const expanded = asked.get('expanded') === 'yes';
window.problems = [];
window.empty = [];
const problem = (text) => window.problems.push(text);

const transformers = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(() => [...transformers.values()].map((transformation) => ({ id: transformation.id, name: transformation.name, transformation: async () => transformation, editor: () => null })));

// The options of a field and their paths: Grafana's own list is part of the server.
const plain = ['unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings', 'links'];
const custom = ['axisPlacement', 'lineStyle', 'lineWidth', 'fillOpacity', 'gradientMode', 'drawStyle', 'lineInterpolation', 'showPoints', 'spanNulls', 'stacking', 'thresholdsStyle', 'align', 'cellOptions', 'width', 'minWidth', 'filterable', 'hideFrom', 'axisSoftMax'];
const option = (id, path, isCustom) => ({ id, path, name: id, isCustom, process: (value) => value, shouldApply: () => true, editor: () => null, override: () => null });
const registry = new Registry(() => [...plain.map((id) => option(id, id, false)), ...custom.map((id) => option(`custom.${id}`, id, true))]);

// The interval of scrapes, or a multiple of it where there are more points than pixels.
const scrape = Number(asked.get('step'));
const step = Math.max(scrape, Math.ceil((to - from) / 1000 / 700 / scrape) * scrape);
function fill(text, variables) {
  const all = { __rate_interval: `${Math.max(4 * scrape, step + scrape)}s`, __interval: `${step}s`, __range: `${(to - from) / 1000}s`, ...variables };
  return text.replace(/\$(?:(\w+)|\{(\w+)[^}]*\})/g, (whole, bare, braced) => all[bare ?? braced] ?? whole);
}

async function ask(path, params) {
  const answer = await (await fetch(`${prometheus}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(params) })).json();
  if (answer.status !== 'success') throw new Error(`${params.query ?? path}: ${answer.error}`);
  return answer.data;
}

const fixed = { cluster: '.*', job: asked.get('job') ?? '.+', instance: asked.get('instance') ?? '.+', netns: asked.get('netns') ?? '.*' };

function legend(format, labels) {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '').replace(/\s+/g, ' ').trim();
}

async function query(panel, target) {
  const expr = fill(target.expr, fixed);
  if (!target.instant) {
    const data = await ask('query_range', { query: expr, start: from / 1000, end: to / 1000, step });
    return data.result.map(({ metric, values }) => {
      const at = new Map(values.map(([time, value]) => [time, Number(value)]));
      const times = [], points = [];
      for (let time = from / 1000; time <= to / 1000; time += step) { times.push(time * 1000); points.push(at.get(time) ?? null); }
      const name = legend(target.legendFormat ?? '', metric);
      return toDataFrame({ refId: target.refId, name, fields: [
        { name: 'Time', type: FieldType.time, values: times },
        { name: 'Value', type: FieldType.number, labels: metric, values: points, config: { displayNameFromDS: name } },
      ] });
    });
  }
  const data = await ask('query', { query: expr, time: to / 1000 });
  if (panel.type === 'stat') {
    return data.result.map(({ metric, value }) => {
      const name = legend(target.legendFormat ?? '', metric);
      return toDataFrame({ refId: target.refId, name, fields: [
        { name: 'Time', type: FieldType.time, values: [to] },
        { name: 'Value', type: FieldType.number, labels: metric, values: [Number(value[1])], config: { displayNameFromDS: name } },
      ] });
    });
  }
  const names = [...new Set(data.result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const several = panel.targets.length > 1;
  if (!data.result.length) return [toDataFrame({ refId: target.refId, fields: [] })];
  return [toDataFrame({ refId: target.refId, fields: [
    { name: 'Time', type: FieldType.time, values: data.result.map(() => to) },
    ...names.map((name) => ({ name, type: FieldType.string, values: data.result.map(({ metric }) => metric[name] ?? null) })),
    { name: several ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: data.result.map(({ value }) => Number(value[1])) },
  ] })];
}

async function load(panel) {
  let frames = (await Promise.all(panel.targets.map((target) => query(panel, target)))).flat();
  if (panel.transformations?.length) {
    frames = await firstValueFrom(transformDataFrame(panel.transformations, frames));
  }
  frames = applyFieldOverrides({ data: frames, fieldConfig: panel.fieldConfig, fieldConfigRegistry: registry, replaceVariables: (text) => text, theme, timeZone: 'utc' });
  if (panel.type !== 'table') frames.forEach((frame, index) => frame.fields.forEach((field) => { field.state = { ...field.state, seriesIndex: index, displayName: field.config.displayNameFromDS ?? field.name }; field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' }); }));
  else cacheFieldDisplayNames(frames);
  return frames.filter((frame) => frame.length > 0);
}

function Body({ panel, frames, width, height }) {
  if (!frames.length) {
    return <div style={{ height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary }}>No data</div>;
  }
  if (panel.type === 'stat') {
    const field = frames[0].fields.find((one) => one.type === FieldType.number);
    const value = reduceField({ field, reducers: ['last'] }).last;
    return <BigValue width={width} height={height} theme={theme} value={{ ...field.display(value), title: field.config.displayNameFromDS }} count={1} text={panel.options.text}
      colorMode={BigValueColorMode.Value} graphMode={BigValueGraphMode.None} justifyMode={BigValueJustifyMode.Auto} textMode={BigValueTextMode.ValueAndName} />;
  }
  if (panel.type === 'timeseries') {
    return <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone="utc" legend={panel.options.legend} options={panel.options} />;
  }
  if (panel.type === 'table') {
    return <TableNG data={frames[0]} width={width} height={height} sortBy={panel.options.sortBy} cellHeight={panel.options.cellHeight} fieldConfig={panel.fieldConfig} enableVirtualization={false} timeRange={timeRange} />;
  }
  throw new Error(`no component for a panel of type ${panel.type}`);
}

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  componentDidCatch(error) { problem(`${this.props.title}: ${error.message}`); }
  render() { return this.state.error ? <pre>{String(this.state.error)}</pre> : this.props.children; }
}

const context = { eventsScope: 'render', eventBus: new EventBusSrv(), onToggleSeriesVisibility: () => {} };

function Panel({ panel, frames }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * COLUMN + 4, top: y * ROW + 4, width: w * COLUMN - 8, height: h * ROW - 8 };
  if (panel.type === 'row') {
    return <div style={{ ...place, fontSize: 18, paddingTop: 4, color: theme.colors.text.primary }}>{panel.collapsed && !expanded ? '▸' : '▾'} {panel.title}</div>;
  }
  return (
    <div style={place} data-panel={panel.title}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
        {(width, height) => <Guard title={panel.title}><Body panel={panel} frames={frames} width={width} height={height} /></Guard>}
      </PanelChrome>
    </div>
  );
}

function Board({ board, loaded }) {
  const height = Math.max(...board.panels.map(({ gridPos: { y, h } }) => y + h)) * ROW + 60;
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PanelContextProvider value={context}>
        <div style={{ background: theme.colors.background.canvas, color: theme.colors.text.primary, width: 1616, height, padding: 8, fontFamily: theme.typography.fontFamily }}>
          <div style={{ height: 44, fontSize: 20, padding: 8 }}>{board.title} <span style={{ fontSize: 13, color: theme.colors.text.secondary, paddingLeft: 16 }}>{asked.get('instance') ?? ''}</span></div>
          <div style={{ position: 'relative' }}>{board.panels.map((panel) => <Panel key={panel.id} panel={panel} frames={loaded.get(panel.id)} />)}</div>
        </div>
      </PanelContextProvider>
    </ThemeContext.Provider>
  );
}

// A board with its collapsed rows opened, as Grafana places the panels then: below the row, and what follows moves down.
function opened(panels) {
  let down = 0;
  return panels.flatMap((panel) => {
    const moved = { ...panel, gridPos: { ...panel.gridPos, y: panel.gridPos.y + down } };
    const inside = (panel.panels ?? []).map((one) => ({ ...one, gridPos: { ...one.gridPos, y: one.gridPos.y + down } }));
    if (inside.length) down += Math.max(...inside.map(({ gridPos: { y, h } }) => y + h)) - moved.gridPos.y - 1;
    return [moved, ...inside];
  });
}

async function main() {
  const board = await (await fetch(`/dashboards/${asked.get('board')}.json`)).json();
  if (expanded) board.panels = opened(board.panels);
  const loaded = new Map();
  for (const panel of board.panels.filter(({ type }) => type !== 'row')) {
    try {
      loaded.set(panel.id, await load(panel));
      if (!loaded.get(panel.id).length) window.empty.push(panel.title);
    } catch (error) {
      problem(`${panel.title}: ${error.message}`);
      loaded.set(panel.id, []);
    }
  }
  createRoot(document.getElementById('root')).render(<Board board={board} loaded={loaded} />);
  setTimeout(() => { window.drawn = true; }, 4000);
}
main().catch((error) => { problem(String(error)); window.drawn = true; });
