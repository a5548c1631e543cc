//! When the files of certificates have changed, and what was said of them.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::certificate::Certificate;
use crate::access::{FileVersion, shown_time};

/// That a certificate ends is said so long before. Renewal tools renew a month before.
const WARNED_BEFORE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The files as they were when they were last looked at and read.
#[derive(Debug)]
pub(super) struct Watch {
    looked_at: Vec<Option<FileVersion>>,
    read: Vec<Option<FileVersion>>,
    /// What was last said to be wrong with them.
    pub trouble: Option<String>,
    /// Ends that were told of, and whether those had come.
    told: Vec<(SystemTime, bool)>,
}

impl Watch {
    /// Files that are about to be read.
    pub(super) fn of(files: &[PathBuf]) -> Watch {
        let now = versions(files);
        Watch {
            looked_at: now.clone(),
            read: now,
            trouble: None,
            told: Vec::new(),
        }
    }

    /// Looks at the files. Returns whether they are others than those that were read and stayed the same since the last look:
    /// whoever replaces the two does so one after the other, and some write them in pieces.
    pub(super) fn has_settled(&mut self, files: &[PathBuf]) -> bool {
        let now = versions(files);
        let is_quiet = now == self.looked_at;
        self.looked_at = now;
        if !is_quiet || self.looked_at == self.read {
            return false;
        }
        self.read.clone_from(&self.looked_at);
        true
    }

    /// Has the files taken for others than those that were read.
    pub(super) fn forget(&mut self) {
        self.read.clear();
    }

    pub(super) fn warn_of_ends(&mut self, certificates: &[Certificate], now: SystemTime) {
        self.told
            .retain(|(end, _)| certificates.iter().any(|one| one.ends() == *end));
        for certificate in certificates {
            let (end, is_over) = (certificate.ends(), certificate.ends() <= now);
            if end > now + WARNED_BEFORE || self.told.contains(&(end, is_over)) {
                continue;
            }
            self.told.push((end, is_over));
            let (file, ends) = (certificate.file().display(), shown_time(end));
            match is_over {
                true => tracing::error!(
                    "tls.cert: {file}: the certificate ended at {ends}; clients refuse it: renew it"
                ),
                false => {
                    tracing::warn!("tls.cert: {file}: the certificate ends at {ends}; renew it")
                }
            }
        }
    }
}

fn versions(files: &[PathBuf]) -> Vec<Option<FileVersion>> {
    files.iter().map(|path| FileVersion::of(path)).collect()
}
