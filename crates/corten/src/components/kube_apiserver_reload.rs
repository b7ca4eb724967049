//! Files that `kube-apiserver` reads again when they change: certificates, and the configuration of authentication and
//! authorization. What does not read leaves things as they were, and is told once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Takes over the texts of files.
type Apply = Box<dyn Fn(&[String]) -> Result<()> + Send>;

/// Files, and what is done with their texts when one of them is another.
pub struct Watched {
    files: Vec<PathBuf>,
    texts: Vec<Option<String>>,
    apply: Apply,
}

impl Watched {
    /// The files as they are now are what is in use.
    pub fn new(files: Vec<PathBuf>, apply: impl Fn(&[String]) -> Result<()> + Send + 'static) -> Self {
        let texts = files.iter().map(|file| std::fs::read_to_string(file).ok()).collect();
        Self { files, texts, apply: Box::new(apply) }
    }

    /// Whether something was applied.
    fn look(&mut self) -> bool {
        let texts: Vec<Option<String>> =
            self.files.iter().map(|file| std::fs::read_to_string(file).ok()).collect();
        if texts == self.texts {
            return false;
        }
        self.texts = texts;
        let Some(texts) = self.texts.iter().cloned().collect::<Option<Vec<String>>>() else { return false };
        let names: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        match (self.apply)(&texts) {
            Ok(()) => {
                tracing::info!(files = names.join(", "), "read again");
                true
            }
            Err(error) => {
                tracing::error!(files = names.join(", "), "not read again: {error:#}");
                false
            }
        }
    }
}

/// Looks at them until the end.
pub async fn follow(mut watched: Vec<Watched>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        for one in &mut watched {
            one.look();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn changes() {
        let directory = tempfile::tempdir().unwrap();
        let (a, b) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        std::fs::write(&b, "2").unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = seen.clone();
        let mut watched = Watched::new(vec![a.clone(), b.clone()], move |texts| {
            note.lock().unwrap().push(texts.concat());
            if texts[0] == "bad" { anyhow::bail!("bad") } else { Ok(()) }
        });
        assert!(!watched.look());
        std::fs::write(&b, "3").unwrap();
        assert!(watched.look());
        assert!(!watched.look());
        std::fs::write(&a, "bad").unwrap();
        assert!(!watched.look());
        assert!(!watched.look(), "what is bad is tried once");
        std::fs::remove_file(&a).unwrap();
        assert!(!watched.look(), "half of it says nothing");
        std::fs::write(&a, "4").unwrap();
        assert!(watched.look());
        assert_eq!(*seen.lock().unwrap(), ["13", "bad3", "43"]);
    }
}
