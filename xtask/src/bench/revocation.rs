//! `revocation`: a person is locked while they type in many sessions; how long until all are over.
//!
//! Seen from the client: the last byte that came back had been at the target before. The clock runs
//! from the end of the command that set the lock, shortly after the API answered; and once more from
//! the command's start, which is an upper bound.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{
    crowd::Crowd,
    figures::{Figures, Row, percentile},
    options::Options,
    path::{Cipher, Path},
    world::World,
};

const KEYS_PER_S: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes the samples: one a session, all of one lock.
pub fn take(world: &mut World, options: &Options, figures: &mut Figures) -> anyhow::Result<()> {
    let sessions = options.count(200, 20);
    let route = world.route(Cipher::Aes256Gcm)?.clone();
    let crowd = Crowd::gather(world, Path::Sallyport, &route, sessions)?;
    let stop = AtomicBool::new(false);
    let world = &*world;
    let (asked, answered, ended) = crowd.keep_typing(KEYS_PER_S, &stop, || {
        // All are typing by the time the lock comes.
        std::thread::sleep(Duration::from_secs(2));
        let asked = Instant::now();
        let locked = world.lock_person();
        let answered = Instant::now();
        locked.and_then(|()| Ok((asked, answered, crowd.ends(PATIENCE)?)))
    })??;
    world.unlock_person()?;
    for (key, label, from, is_end) in [
        ("last-byte", "answer to last byte", answered, false),
        ("end", "answer to the client's end", answered, true),
        ("end-from-asking", "asking to the client's end", asked, true),
    ] {
        let taken: Vec<f64> = ended
            .iter()
            .map(|ended| if is_end { ended.end } else { ended.last_byte })
            // Before the answer is as good as at once.
            .map(|at| at.saturating_duration_since(from).as_secs_f64() * 1e3)
            .collect();
        for (name, place) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            if let Some(sample) = percentile(&taken, place) {
                let row = Row::new(
                    format!("{key}.{name}"),
                    format!("{sessions} sessions, {label}: {name}"),
                    "ms",
                );
                figures.add(&row, Some(Path::Sallyport), sample);
            }
        }
    }
    Ok(())
}
