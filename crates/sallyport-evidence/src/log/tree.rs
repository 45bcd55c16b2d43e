//! The Merkle tree of RFC 6962 section 2.1: hashes, node addresses, and the growing right edge.
//!
//! The audit integrator of `sallyport-control` appends one leaf per entry to a [`Frontier`] and
//! stores the nodes it emits; [`super::export`] and [`super::verify`] do the same over an export.
//!
//! INVARIANT: [`Frontier::root`] after n appends is the Merkle tree hash of those n leaves, and the
//! memory for it grows with log n only.
//!
//! Not here: reading stored nodes ([`super::tile`]), proofs ([`super::proof`]).

use std::fmt;

use aws_lc_rs::digest::{self, SHA256};

/// Bytes of one hash.
pub const HASH_SIZE: usize = 32;

/// Most entries a log can have: their sequence numbers are exact in every JSON reader.
pub const SIZE_MAX: u64 = 1 << 53;

/// A node of the tree: SHA-256, printed in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeHash([u8; HASH_SIZE]);

impl TreeHash {
    /// Takes the bytes of a hash computed elsewhere.
    #[must_use]
    pub const fn new(bytes: [u8; HASH_SIZE]) -> Self {
        Self(bytes)
    }

    /// Takes exactly [`HASH_SIZE`] bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; HASH_SIZE] {
        &self.0
    }

    /// Hash of an entry: SHA-256(0x00 || entry).
    #[must_use]
    pub fn of_leaf(entry: &[u8]) -> Self {
        let mut context = digest::Context::new(&SHA256);
        context.update(&[0x00]);
        context.update(entry);
        Self::from_digest(&context.finish())
    }

    /// Hash of an inner node: SHA-256(0x01 || left || right).
    #[must_use]
    pub fn of_children(left: &Self, right: &Self) -> Self {
        let mut input = [0x01; 1 + 2 * HASH_SIZE];
        let children = left.0.iter().chain(&right.0);
        for (place, byte) in input.iter_mut().skip(1).zip(children) {
            *place = *byte;
        }
        Self::from_digest(&digest::digest(&SHA256, &input))
    }

    /// Root of the tree without leaves: SHA-256 of nothing.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self::from_digest(&digest::digest(&SHA256, &[]))
    }

    fn from_digest(digest: &digest::Digest) -> Self {
        let mut bytes = [0; HASH_SIZE];
        for (place, byte) in bytes.iter_mut().zip(digest.as_ref()) {
            *place = *byte;
        }
        Self(bytes)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "TreeHash({self})")
    }
}

/// Where a complete node stands: it covers leaves `index << level` to `(index + 1) << level`,
/// the last one excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeAddress {
    /// Height above the leaves, which are level 0.
    pub level: u32,
    /// Position among the nodes of this level, from the left.
    pub index: u64,
}

/// Why stored bytes are not a frontier: damaged, or not written by [`Frontier::to_bytes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read frontier of {size_bytes} bytes: the size field and the number of hashes disagree")]
pub struct FrontierError {
    /// How many bytes there were.
    pub size_bytes: usize,
}

/// The right edge of the tree: the roots of its complete subtrees, left to right.
///
/// Enough to append and to know the root; not enough for proofs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// One root per bit of `size`, largest subtree first.
    subtrees: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The frontier of a tree of `size` leaves whose complete subtrees, as [`cover`] lists them, have
    /// the roots `subtrees`.
    pub(crate) const fn of_subtrees(size: u64, subtrees: Vec<TreeHash>) -> Self {
        Self { size, subtrees }
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right and calls `emit` for every node this completes: the leaf first,
    /// then upwards. Each node of the tree is emitted once, and never changes afterwards.
    pub fn append(&mut self, leaf: TreeHash, emit: &mut impl FnMut(NodeAddress, TreeHash)) {
        let mut node = leaf;
        let mut address = NodeAddress {
            level: 0,
            index: self.size,
        };
        emit(address, node);
        // A right child completes its parent with the subtree on its left, which is the last one.
        while address.index % 2 == 1
            && let Some(left) = self.subtrees.pop()
        {
            node = TreeHash::of_children(&left, &node);
            address = NodeAddress {
                level: address.level + 1,
                index: address.index / 2,
            };
            emit(address, node);
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// The Merkle tree hash of all leaves so far.
    #[must_use]
    pub fn root(&self) -> TreeHash {
        join_subtrees(&self.subtrees)
    }

    /// For storage: the size as 8 bytes, big endian, then the hashes, left to right.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.size.to_be_bytes().to_vec();
        for subtree in &self.subtrees {
            bytes.extend_from_slice(subtree.as_bytes());
        }
        bytes
    }

    /// Reads what [`Frontier::to_bytes`] wrote. A damaged hash is not noticed here: compare
    /// [`Frontier::root`] with the last checkpoint before signing another one.
    ///
    /// # Errors
    ///
    /// [`FrontierError`] when the length does not follow from the size, or the size is beyond
    /// [`SIZE_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrontierError> {
        let refused = FrontierError {
            size_bytes: bytes.len(),
        };
        let (size, hashes) = bytes.split_first_chunk::<8>().ok_or(refused)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, rest) = hashes.as_chunks::<HASH_SIZE>();
        let subtrees: Vec<TreeHash> = hashes.iter().copied().map(TreeHash::new).collect();
        let expected = usize::try_from(size.count_ones()).map_err(|_| refused)?;
        if size > SIZE_MAX || !rest.is_empty() || subtrees.len() != expected {
            return Err(refused);
        }
        Ok(Self { size, subtrees })
    }
}

/// Root over neighbouring complete subtrees, largest first, as RFC 6962 splits an incomplete tree.
pub(crate) fn join_subtrees(subtrees: &[TreeHash]) -> TreeHash {
    let mut from_right = subtrees.iter().rev();
    let Some(last) = from_right.next() else {
        return TreeHash::of_nothing();
    };
    from_right.fold(*last, |right, left| TreeHash::of_children(left, &right))
}

/// Complete subtrees that cover leaves `from` to `to` (excluded), left to right.
///
/// For the ranges that RFC 6962 splits a tree into, the sizes fall from left to right.
pub(crate) fn cover(from: u64, to: u64) -> Vec<NodeAddress> {
    let mut nodes = Vec::new();
    let mut at = from;
    while let Some(length_log2) = to.saturating_sub(at).checked_ilog2() {
        let level = at.trailing_zeros().min(length_log2);
        nodes.push(NodeAddress {
            level,
            index: at >> level,
        });
        at += 1 << level;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;

    fn frontier(size: u64) -> Frontier {
        let mut frontier = Frontier::new();
        for index in 0..size {
            frontier.append(TreeHash::of_leaf(&index.to_be_bytes()), &mut |_, _| {});
        }
        frontier
    }

    /// The eight inputs and the roots that Certificate Transparency implementations test with.
    #[test]
    fn given_the_reference_inputs_of_certificate_transparency_then_the_roots_are_theirs() {
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::new();
        assert_eq!(
            frontier.root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (input, root) in inputs.iter().zip(roots) {
            frontier.append(
                TreeHash::of_leaf(&hex::decode(input).unwrap()),
                &mut |_, _| {},
            );
            assert_eq!(frontier.root().to_string(), root);
        }
    }

    #[test]
    fn given_appends_when_nodes_are_emitted_then_each_complete_node_comes_once() {
        let mut emitted = Vec::new();
        let mut frontier = Frontier::new();
        for index in 0_u64..100 {
            frontier.append(
                TreeHash::of_leaf(&index.to_be_bytes()),
                &mut |address, _| {
                    emitted.push(address);
                },
            );
        }
        let mut expected = Vec::new();
        for level in 0..7 {
            for index in 0..100_u64 >> level {
                expected.push(NodeAddress { level, index });
            }
        }
        emitted.sort_unstable();
        assert_eq!(emitted, expected);
    }

    #[test]
    fn given_stored_bytes_that_are_not_a_frontier_when_read_then_they_are_refused() {
        let good = frontier(5).to_bytes();
        assert_eq!(good.len(), 8 + 2 * HASH_SIZE);
        for bad in [
            &good[..good.len() - 1],
            &good[..7],
            &good[..8 + HASH_SIZE],
            &[good.clone(), vec![0; 32]].concat(),
        ] {
            assert_eq!(
                Frontier::from_bytes(bad),
                Err(FrontierError {
                    size_bytes: bad.len()
                })
            );
        }
        let beyond = [&(SIZE_MAX + 1).to_be_bytes()[..], &[0; 64]].concat();
        assert!(Frontier::from_bytes(&beyond).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_root_is_that_of_an_independent_implementation(size in 0_u64..700) {
            let mut other = MemoryBackedTree::<Sha256, [u8; 8]>::new();
            for index in 0..size {
                other.push(index.to_be_bytes());
            }
            let (ours, theirs) = (frontier(size).root(), other.root());
            prop_assert_eq!(&ours.as_bytes()[..], &theirs.as_bytes()[..]);
        }

        #[test]
        fn a_stored_frontier_goes_on_as_if_never_stored(size in 0_u64..600, more in 0_u64..70) {
            let mut resumed = Frontier::from_bytes(&frontier(size).to_bytes()).unwrap();
            for index in size..size + more {
                resumed.append(TreeHash::of_leaf(&index.to_be_bytes()), &mut |_, _| {});
            }
            prop_assert_eq!(resumed, frontier(size + more));
        }

        #[test]
        fn a_cover_is_gapless_and_complete(from in 0_u64..1000, length in 0_u64..1000) {
            let mut at = from;
            for node in cover(from, from + length) {
                prop_assert_eq!(node.index << node.level, at);
                at += 1 << node.level;
            }
            prop_assert_eq!(at, from + length);
        }
    }
}
