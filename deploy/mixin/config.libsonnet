// Parameters of the mixin. The defaults render the files of deploy/prometheus and dashboards byte for byte.
{
  _config+:: {
    // Matchers added to every selector of the rules and dashboards: 'environment="prod"'.
    timewaitSelector: '',
    // The label that names a cluster.
    clusterLabel: 'cluster',
    // Exhaustion ratios of the warning and critical alerts, recording rules and dashboard thresholds.
    warningRatio: '0.75',
    criticalRatio: '0.9',
    // The part of every runbook_url before `#`.
    runbookBase: 'https://github.com/timewait-exporter/timewait_exporter/blob/main/deploy/prometheus/runbooks.md',
  },
}
