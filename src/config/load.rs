//! Reading of files and the environment; the only I/O of the configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::Env;
use super::checked::{Config, Stream};
use super::document::{Document, one_stream_of};
use super::problem::Problems;

/// Most bytes of a configuration file.
const FILE_BYTES: u64 = 16 << 20;
/// Most bytes of a secret's file.
const SECRET_BYTES: u64 = 64 << 10;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read; the operator's to mend, a retry may help.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong; every mistake is told.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Loads and checks a configuration file with everything it refers to.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let (document, env) = open(path)?;
    Ok(document.check(&env)?)
}

/// The one stream of a one-shot command; see [`one_stream_of`]. `config` gives defaults and profiles.
pub fn one_stream(
    input: &str,
    sets: &[(String, String)],
    config: Option<&Path>,
) -> Result<Arc<Stream>, LoadError> {
    let (document, mut env) = match config {
        Some(path) => {
            let (document, env) = open(path)?;
            (Some(document), env)
        }
        None => (None, of_process("command line", Path::new("."))),
    };
    // What stands on the command line is relative to the working directory, not to the file.
    for (_, value) in sets.iter().filter(|(key, _)| key.ends_with("_file")) {
        let found = secret(&absolute(Path::new(value)));
        env.files.insert(value.clone(), found);
    }
    let input = match input.contains("://") {
        true => input.to_owned(),
        false => absolute(Path::new(input)).to_string_lossy().into_owned(),
    };
    Ok(one_stream_of(document, &input, sets, &env)?)
}

fn open(path: &Path) -> Result<(Document, Env), LoadError> {
    let text = read(path, FILE_BYTES).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut env = of_process(&path.display().to_string(), dir.unwrap_or(Path::new(".")));
    let document = Document::parse(&text, &env.file, &env.vars)?;
    env.files = document
        .files()
        .into_iter()
        .map(|path| {
            let found = secret(&env.base.join(&path));
            (path, found)
        })
        .collect();
    Ok((document, env))
}

fn of_process(file: &str, dir: &Path) -> Env {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Env {
        file: file.to_owned(),
        base: absolute(dir),
        host: host.trim().to_owned(),
        vars: std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect(),
        files: BTreeMap::new(),
        aws: cfg!(feature = "aws"),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn secret(path: &Path) -> Result<String, String> {
    read(path, SECRET_BYTES).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => e.to_string(),
    })
}

fn read(path: &Path, limit: u64) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a file"));
    }
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(std::io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(text)
}
