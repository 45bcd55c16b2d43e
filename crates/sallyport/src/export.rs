//! Exports of the audit log as folders on disk: written by `audit export`, read by `audit verify`.
//!
//! INVARIANT: only files under the folder are read or written, whatever names an export claims.
//!
//! Not here: what an export holds and whether it verifies (`sallyport-evidence`).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write as _},
    path::{Component, Path, PathBuf},
};

use sallyport_evidence::log::export::{Export, ExportSink};

/// Folders in folders that an export may have: a tile's number has at most six parts.
const DEPTH_MAX: usize = 12;

/// A folder to export into, which must be new or empty.
#[derive(Debug)]
pub struct ExportFolder {
    path: PathBuf,
    /// The file written last: entries come by the thousand, one append each.
    open: Option<(String, BufWriter<File>)>,
}

impl ExportFolder {
    /// Makes the folder.
    ///
    /// # Errors
    /// It cannot be made, or holds something.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        if fs::read_dir(path)?.next().is_some() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the folder is not empty",
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            open: None,
        })
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn finish(mut self) -> io::Result<()> {
        self.close()?;
        File::open(&self.path)?.sync_all()
    }

    fn close(&mut self) -> io::Result<()> {
        if let Some((_, writer)) = self.open.take() {
            let file = writer
                .into_inner()
                .map_err(io::IntoInnerError::into_error)?;
            file.sync_all()?;
        }
        Ok(())
    }
}

impl ExportSink for ExportFolder {
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Some((open, writer)) = &mut self.open
            && open == name
        {
            return writer.write_all(bytes);
        }
        self.close()?;
        let path = inside(&self.path, name)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut writer = BufWriter::new(file);
        writer.write_all(bytes)?;
        self.open = Some((name.to_owned(), writer));
        Ok(())
    }
}

/// A folder to verify.
#[derive(Debug)]
pub struct ExportedFolder {
    path: PathBuf,
}

impl ExportedFolder {
    /// A folder with an export in it.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

impl Export for ExportedFolder {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn Read + '_>>> {
        let path = inside(&self.path, name)?;
        match File::open(path) {
            Ok(file) => Ok(Some(Box::new(BufReader::new(file)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        walk(&self.path, "", 0, &mut names)?;
        Ok(names)
    }
}

fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(
            "folders are nested too deep for an export",
        ));
    }
    for item in fs::read_dir(folder)? {
        let item = item?;
        let name = format!("{prefix}{}", item.file_name().to_string_lossy());
        // A link is named as a file, and so reported as no part of an export.
        if item.file_type()?.is_dir() {
            walk(
                &item.path(),
                &format!("{name}/"),
                depth.saturating_add(1),
                names,
            )?;
        } else {
            names.push(name);
        }
    }
    Ok(())
}

fn inside(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let is_inside = !name.is_empty()
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if is_inside {
        Ok(folder.join(name))
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{name}` is no name within an export"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_back_by_name() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("log");
        let mut folder = ExportFolder::create(&path).unwrap();
        for (name, text) in [
            ("entries.jsonl", "one\n"),
            ("tile/0/000.p/1", "hash"),
            ("entries.jsonl", "two\n"),
        ] {
            folder.append(name, text.as_bytes()).unwrap();
        }
        folder.finish().unwrap();

        let read = ExportedFolder::new(&path);
        let mut text = String::new();
        read.open("entries.jsonl")
            .unwrap()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "one\ntwo\n");
        assert!(read.open("checkpoint").unwrap().is_none());
        let mut names = read.names().unwrap();
        names.sort();
        assert_eq!(names, ["entries.jsonl", "tile/0/000.p/1"]);
        assert!(ExportFolder::create(&path).is_err(), "overwritten");
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let home = tempfile::tempdir().unwrap();
        for name in ["", "..", "../x", "a/../../x", "/etc/passwd"] {
            assert!(inside(home.path(), name).is_err(), "{name}");
        }
    }
}
