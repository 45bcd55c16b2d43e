//! `sftp`: a file fetched and put with stock `sftp`, connecting included.

use std::{
    fs,
    io::Write as _,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    client::{Watchdog, client, finish},
    figures::{Figures, Row},
    options::Options,
    path::{Cipher, Path, Route, in_turn},
    world::{Spent, World},
};

const LIMIT: Duration = Duration::from_secs(120);

/// Takes the samples.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let mib = (options.size_mib / 4).max(1);
    let route = world.route(Cipher::Aes256Gcm)?;
    let (source, copy) = (world.file("sftp-source"), world.file("sftp-copy"));
    let content = fs::read(world.file("random")).context("read what is sent")?;
    let bytes = usize::try_from(mib << 20).context("read the size")?;
    let content = content.get(..bytes).context("take what is sent")?;
    fs::write(&source, content).context("write what is sent")?;
    for (_, path) in in_turn(options.rounds) {
        for way in ["get", "put"] {
            let rate = Row::new(format!("{way}.rate"), format!("{way}: rate"), "MiB/s");
            let batch = format!("{way} {} {}\n", source.display(), copy.display());
            let moved = run(world, path, route, &batch).and_then(|moved| {
                ensure!(
                    fs::read(&copy).context("read what arrived")? == content,
                    "what arrived is not what was sent"
                );
                fs::remove_file(&copy).context("remove what arrived")?;
                Ok(moved)
            });
            let (took, spent) = match moved {
                Ok(moved) => moved,
                Err(error) => {
                    figures.fail(&rate, Some(path), &error);
                    continue;
                }
            };
            figures.add(&rate, Some(path), mib as f64 / took.as_secs_f64());
            if let Some(middle) = spent.in_the_middle(path) {
                let row = Row::new(
                    format!("{way}.middle-cpu"),
                    format!("{way}: CPU of relay or gateway"),
                    "s/GiB",
                );
                let gib = mib as f64 / 1024.0;
                figures.add(&row, Some(path), middle.as_secs_f64() / gib);
            }
        }
    }
    Ok(())
}

fn run(world: &World, path: Path, route: &Route, batch: &str) -> anyhow::Result<(Duration, Spent)> {
    let before = world.spent()?;
    let start = Instant::now();
    let mut child = client(world, "sftp", path, route)
        .args(["-q", "-b", "-", "127.0.0.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start sftp")?;
    let watchdog = Watchdog::watch(&child, LIMIT);
    let mut stdin = child.stdin.take().context("reach sftp")?;
    // A client that ended before it read its batch says why.
    let _ = stdin.write_all(batch.as_bytes());
    drop(stdin);
    finish(&mut child, watchdog)?;
    let took = start.elapsed();
    let spent = world.spent()?.since(before);
    if path == Path::Sallyport {
        world.forget_recordings()?;
    }
    Ok((took, spent))
}
