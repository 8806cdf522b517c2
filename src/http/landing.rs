//! The page under `/`: what this is and where the rest is.
//!
//! Plain HTML without scripts or styles. Its links are relative, so that it works under the prefix of
//! a reverse proxy.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::config::TelemetryPath;

/// The page.
pub(super) fn page(version: &str, telemetry_path: &TelemetryPath) -> Bytes {
    let metrics = relative(telemetry_path.as_str());
    let mut page = String::from(HEAD);
    for (link, text) in [
        (metrics.as_str(), "Metrics"),
        ("-/healthy", "Healthy"),
        ("-/ready", "Ready"),
    ] {
        // A telemetry path has no character that HTML gives a meaning.
        let _infallible = writeln!(page, "<li><a href=\"{link}\">{text}</a></li>");
    }
    let _infallible = writeln!(page, "</ul>\n<p>Version {version}</p>\n</body>\n</html>");
    page.into()
}

const HEAD: &str = "\
<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"color-scheme\" content=\"light dark\">
<title>TIME-WAIT Exporter</title>
</head>
<body>
<h1>TIME-WAIT Exporter</h1>
<p>Prometheus exporter for TIME-WAIT sockets and ephemeral port exhaustion</p>
<ul>
";

/// Seen from `/`. The dot keeps a colon in the first segment from being read as a scheme.
fn relative(path: &str) -> String {
    format!(".{path}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        let page = page("1.2.3", &"/a:b/metrics".parse().unwrap());
        let text = str::from_utf8(&page).unwrap();
        assert!(text.contains("href=\"./a:b/metrics\""), "{text}");
        assert!(!text.contains("href=\"/"), "{text}");
        assert!(text.contains("1.2.3"), "{text}");
    }
}
