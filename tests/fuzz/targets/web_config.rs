//! The file of --web.config.file: every text is a configuration or an error that says why.
#![no_main]

use libfuzzer_sys::fuzz_target;
use timewait_exporter::web::config::WebFile;

fuzz_target!(|input: &[u8]| {
    // Does not read the files that the text names.
    match WebFile::parse(input) {
        Ok(file) => {
            if let Err(error) = file.users.check() {
                assert!(!error.to_string().is_empty());
            }
            for name in file.headers.keys() {
                // Nothing else can be set there.
                let name = name.as_str();
                let may_be_set = ["content-security-policy", "strict-transport-security"];
                assert!(
                    name.starts_with("x-") || may_be_set.contains(&name),
                    "{name}"
                );
            }
            if let Some(rate) = file.rate_limit {
                assert!(!rate.interval.is_zero());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
