//! `stalls`: many bulk transfers through a node; how many of them never end.

use anyhow::bail;

use super::{
    bulk::{Direction, Load, transfer},
    figures::{Figures, Row},
    options::Options,
    path::{Cipher, Path},
    world::World,
};

/// Takes the one sample: how many of all runs stalled. Anything else that fails is a failure.
pub fn take(world: &World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let route = world.route(Cipher::Aes256Gcm)?;
    let runs = options.stall_runs;
    let row = Row::new("stalled", "transfers that stalled", "runs");
    let (mut stalled, mut failed) = (0_u32, None);
    for run in 0..runs {
        let load = Load {
            direction: if run % 2 == 0 {
                Direction::Down
            } else {
                Direction::Up
            },
            content: if run % 4 < 2 { "text" } else { "random" },
            has_pty: false,
            mib: options.size_mib,
        };
        match transfer(world, Path::Sallyport, route, load) {
            Ok(_) => {}
            Err(error) if error.to_string().starts_with("stalled") => {
                println!("    run {run} of {runs} {error}");
                stalled += 1;
            }
            Err(error) => {
                failed = Some(error.context(format!("run {run} of {runs}")));
                break;
            }
        }
    }
    if let Some(error) = failed {
        bail!(error);
    }
    let of = Row::new(
        "runs",
        format!("transfers of {} MiB", options.size_mib),
        "runs",
    );
    figures.add(&of, Some(Path::Sallyport), runs as f64);
    figures.add(&row, Some(Path::Sallyport), f64::from(stalled));
    Ok(())
}
