// Rules and dashboards of timewait_exporter as a monitoring mixin. See README.md.
local defaults = (import 'config.libsonnet')._config;

local sources = {
  alerts: importstr '../prometheus/alerts.yml',
  recording: importstr '../prometheus/recording.yml',
  'timewait-host': importstr '../../dashboards/timewait-host.json',
  'timewait-fleet': importstr '../../dashboards/timewait-fleet.json',
};

// Replaces one text after the other.
local replaceAll(text, pairs) = std.foldl(function(done, pair) std.strReplace(done, pair[0], pair[1]), pairs, text);

local isNameCharacter(c) = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';

// How many characters of a metric name are left at the beginning of a text.
local nameLength(text, n=0) = if n < std.length(text) && isNameCharacter(text[n]) then nameLength(text, n + 1) tailstrict else n;

// Adds matchers to the selector that follows a metric name, or makes one.
local selected(rest, matchers) =
  if std.startsWith(rest, '{}') then '{' + matchers + '}' + rest[2:]
  else if std.startsWith(rest, '{') then '{' + matchers + ', ' + rest[1:]
  else '{' + matchers + '}' + rest;

// Adds matchers to every selector of an expression: every name that contains timewait_, and `up`.
local withMatchers(expr, matchers) =
  if matchers == '' then expr else
    local parts = std.split(std.strReplace(expr, 'up{', 'up{' + matchers + ', '), 'timewait_');
    parts[0] + std.join('', [
      local length = nameLength(part);
      'timewait_' + part[:length] + selected(part[length:], matchers)
      for part in parts[1:]
    ]);

{
  _config+:: defaults,

  local config = self._config,

  // 0.999, "no port left", begins like the critical ratio.
  local thresholds(text, before) = replaceAll(text, [['0.999', 'EXHAUSTED']] + [
    [prefix + pair[0], prefix + 'RATIO' + pair[1]]
    for prefix in before
    for pair in [[defaults.warningRatio, 'WARNING'], [defaults.criticalRatio, 'CRITICAL']]
  ] + [['RATIOWARNING', config.warningRatio], ['RATIOCRITICAL', config.criticalRatio], ['EXHAUSTED', '0.999']]),

  local comparisons = ['>= ', '> ', '< ', '<= '],

  local cluster(text) = replaceAll(text, [
    ['abels.' + defaults.clusterLabel, 'abels.' + config.clusterLabel],
    [defaults.clusterLabel + '=~\\"$cluster\\"', config.clusterLabel + '=~\\"$cluster\\"'],
    [', ' + defaults.clusterLabel + ')', ', ' + config.clusterLabel + ')'],
    ['(' + defaults.clusterLabel + ', ', '(' + config.clusterLabel + ', '],
    ['"' + defaults.clusterLabel + '":', '"' + config.clusterLabel + '":'],
  ]),

  local rules(text) =
    local replaced = cluster(thresholds(std.strReplace(text, defaults.runbookBase + '#', config.runbookBase + '#'), comparisons));
    local parsed = std.parseYaml(replaced);
    local selective = {
      groups: [
        group { rules: [rule { expr: withMatchers(rule.expr, config.timewaitSelector) } for rule in group.rules] }
        for group in parsed.groups
      ],
    };
    if config.timewaitSelector == '' then { text: replaced, groups: parsed }
    else { text: std.manifestYamlDoc(selective, indent_array_in_object=true), groups: selective },

  local matchers = std.strReplace(config.timewaitSelector, '"', '\\"'),
  local dashboard(text) =
    local replaced = cluster(thresholds(text, comparisons + ['"value": ']));
    if matchers == '' then replaced
    else std.strReplace(replaced, 'job=~\\"$job', matchers + ', job=~\\"$job'),

  prometheusAlerts+:: rules(sources.alerts).groups,
  prometheusRules+:: rules(sources.recording).groups,
  grafanaDashboards+:: {
    [name + '.json']: std.parseJson(dashboard(sources[name]))
    for name in ['timewait-host', 'timewait-fleet']
  },

  // The same as text: jsonnet -S -m DIRECTORY -e "(import 'mixin.libsonnet').files". jsonnet -S ends each file with a
  // line break of its own.
  files:: std.mapWithKey(function(_, text) std.rstripChars(text, '\n'), {
    'alerts.yml': rules(sources.alerts).text,
    'recording.yml': rules(sources.recording).text,
    'timewait-host.json': dashboard(sources['timewait-host']),
    'timewait-fleet.json': dashboard(sources['timewait-fleet']),
  }),
}
