//! Every parser of bytes that a peer controls, over the kept corpus and random changes of it.
//!
//! The bodies are those of the fuzzer (`cargo xtask fuzz`), which finds new inputs; a crash that it found
//! is kept in `fuzz/corpus` and stays found.

use std::{collections::BTreeMap, fs, path::Path};

use sallyport_testkit::effort::rounds;

use crate::node::files_under;

#[path = "../../../../fuzz/src/bodies.rs"]
mod bodies;

/// Numbers that look random and are the same in every run (xorshift): a failure is repeatable.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Changes, cuts, doubles and splices.
    fn change(&mut self, mut input: Vec<u8>, other: &[u8]) -> Vec<u8> {
        for _ in 0..=self.below(6) {
            let at = self.below(input.len());
            match self.below(6) {
                0 if !input.is_empty() => input[at] = self.byte(),
                1 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                2 => input.truncate(at),
                3 => input.insert(at, self.byte()),
                4 => {
                    let from = self.below(other.len());
                    input.splice(at..at, other[from..].iter().copied().take(64));
                }
                _ => {
                    let large = [0, 1, 0x7f, 0x80, 0xff][self.below(5)];
                    input.splice(at..at, [large; 4]);
                }
            }
        }
        input
    }
}

/// R3, O1: 2,000 inputs for each at effort 1.
#[test]
fn given_any_bytes_then_no_parser_panics() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut kept: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for file in files_under(&corpus) {
        let name = file.parent().unwrap().file_name().unwrap();
        let inputs = kept.entry(name.to_str().unwrap().to_owned()).or_default();
        inputs.push(fs::read(&file).unwrap());
    }
    for (name, body) in bodies::ALL {
        // Every body has examples of what it reads: noise alone does not get past the first check.
        let inputs = kept.remove(*name).unwrap_or_default();
        assert!(!inputs.is_empty(), "fuzz/corpus/{name} is empty");
        inputs.iter().for_each(|input| body(input));
        let mut random = Seeded(0x5eed_0000 + u64::try_from(name.len()).unwrap());
        for _ in 0..rounds(2_000) {
            let input = inputs[random.below(inputs.len())].clone();
            let other = &inputs[random.below(inputs.len())];
            body(&random.change(input, other));
        }
    }
    assert!(kept.is_empty(), "a corpus for no body: {:?}", kept.keys());
    assert!(bodies::ALL.is_sorted_by_key(|(name, _)| *name));
}
