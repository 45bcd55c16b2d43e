//! Proofs that one entry is in the log, and that one state of the log continues another.
//!
//! `sallyport-control` makes them from its stored tiles; auditors, witnesses and the CLI check them
//! with nothing but two hashes (RFC 9162 sections 2.1.3 and 2.1.4; the same trees as RFC 6962).
//!
//! INVARIANT: a proof that verifies binds its numbers: index, sizes and hashes are all its inputs,
//! and a path that is one hash too long or too short is refused.
//!
//! Not here: whether the root itself is to be believed ([`super::checkpoint`]).

use super::tile::{NodeReader, TileError};
use super::tree::TreeHash;

/// Why a proof could not be made. The caller asked for what is not there, or the store is damaged.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The index or size lies outside the tree.
    #[error("prove `{part}` of a tree of {size} leaves")]
    Outside {
        /// Index or size that was asked for.
        part: u64,
        /// Size of the tree.
        size: u64,
    },

    /// A stored node could not be read.
    #[error("read nodes for the proof")]
    Node {
        /// Which, and why.
        source: TileError,
    },
}

/// The proof does not prove it: forged, damaged, or of other hashes or numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("proof does not verify")]
pub struct Unproven;

/// Proof that a leaf is at `index` of the tree of `size` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Position of the leaf.
    pub index: u64,
    /// Leaves of the tree.
    pub size: u64,
    /// Siblings on the way from the leaf to the root.
    pub path: Vec<TreeHash>,
}

impl InclusionProof {
    /// Makes the proof for the tree that `nodes` reads.
    ///
    /// # Errors
    ///
    /// [`ProveError`] when `index` is not in the tree, or a node cannot be read.
    pub fn prove(nodes: &mut NodeReader<'_>, index: u64) -> Result<Self, ProveError> {
        let size = nodes.size();
        if index >= size {
            return Err(ProveError::Outside { part: index, size });
        }
        let mut path = Vec::new();
        let (mut from, mut to) = (0, size);
        while let Some(middle) = split(from, to) {
            let sibling = if index < middle {
                let right = (middle, to);
                to = middle;
                right
            } else {
                let left = (from, middle);
                from = middle;
                left
            };
            path.push(range_root(nodes, sibling)?);
        }
        path.reverse();
        Ok(Self { index, size, path })
    }

    /// Checks that `leaf` is where the proof says under `root` (RFC 9162 section 2.1.3.2).
    ///
    /// # Errors
    ///
    /// [`Unproven`] for anything else.
    pub fn verify(&self, leaf: &TreeHash, root: &TreeHash) -> Result<(), Unproven> {
        let last = self
            .size
            .checked_sub(1)
            .filter(|last| self.index <= *last)
            .ok_or(Unproven)?;
        let mut way = Way {
            node: self.index,
            last,
        };
        let mut hash = *leaf;
        for sibling in &self.path {
            hash = match way.climb()? {
                Side::Left => TreeHash::of_children(sibling, &hash),
                Side::Right => TreeHash::of_children(&hash, sibling),
            };
        }
        if way.last == 0 && hash == *root {
            Ok(())
        } else {
            Err(Unproven)
        }
    }
}

/// Proof that the tree of `to` leaves starts with the very leaves of the tree of `from` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Leaves of the older tree.
    pub from: u64,
    /// Leaves of the newer tree.
    pub to: u64,
    /// Nodes that both roots can be computed from.
    pub path: Vec<TreeHash>,
}

impl ConsistencyProof {
    /// Makes the proof from `from` leaves to the tree that `nodes` reads.
    ///
    /// # Errors
    ///
    /// [`ProveError`] when the older tree is larger, or a node cannot be read.
    pub fn prove(nodes: &mut NodeReader<'_>, from: u64) -> Result<Self, ProveError> {
        let size = nodes.size();
        if from > size {
            return Err(ProveError::Outside { part: from, size });
        }
        let mut path = Vec::new();
        let (mut start, mut end) = (0, size);
        // The empty tree is consistent with everything and needs no nodes.
        while from != 0 && from != end {
            let Some(middle) = split(start, end) else {
                break;
            };
            if from <= middle {
                path.push(range_root(nodes, (middle, end))?);
                end = middle;
            } else {
                path.push(range_root(nodes, (start, middle))?);
                start = middle;
            }
        }
        // The checker knows the older root, so the node is left out where it is that root.
        if start != 0 {
            path.push(range_root(nodes, (start, end))?);
        }
        path.reverse();
        Ok(Self {
            from,
            to: size,
            path,
        })
    }

    /// Checks the two roots against each other (RFC 9162 section 2.1.4.2). The empty tree is
    /// consistent with every tree, by an empty path.
    ///
    /// # Errors
    ///
    /// [`Unproven`] for anything else.
    pub fn verify(&self, from_root: &TreeHash, to_root: &TreeHash) -> Result<(), Unproven> {
        let agreed = if self.from == 0 {
            self.path.is_empty() && *from_root == TreeHash::of_nothing()
        } else if self.from == self.to {
            self.path.is_empty() && from_root == to_root
        } else if self.from > self.to {
            false
        } else {
            self.roots(from_root)? == (*from_root, *to_root)
        };
        if agreed { Ok(()) } else { Err(Unproven) }
    }

    /// Both roots, as the path gives them; for 0 < `from` < `to`.
    fn roots(&self, from_root: &TreeHash) -> Result<(TreeHash, TreeHash), Unproven> {
        let mut way = Way {
            node: self.from - 1,
            last: self.to - 1,
        };
        way.skip_right_children();
        let mut path = self.path.iter();
        let first = if self.from.is_power_of_two() {
            Some(from_root)
        } else {
            path.next()
        };
        let first = first.ok_or(Unproven)?;
        let (mut older, mut newer) = (*first, *first);
        for sibling in path {
            match way.climb()? {
                Side::Left => {
                    older = TreeHash::of_children(sibling, &older);
                    newer = TreeHash::of_children(sibling, &newer);
                }
                Side::Right => newer = TreeHash::of_children(&newer, sibling),
            }
        }
        if way.last == 0 {
            Ok((older, newer))
        } else {
            Err(Unproven)
        }
    }
}

/// On which side of the node the next sibling stands.
enum Side {
    Left,
    Right,
}

/// The way from a node to the root: `fn` and `sn` of RFC 9162.
struct Way {
    node: u64,
    last: u64,
}

impl Way {
    fn climb(&mut self) -> Result<Side, Unproven> {
        if self.last == 0 {
            return Err(Unproven);
        }
        let side = if self.node % 2 == 1 || self.node == self.last {
            // On the right edge a node without a right neighbour moves up unpaired.
            while self.node.is_multiple_of(2) && self.node != 0 {
                self.up();
            }
            Side::Left
        } else {
            Side::Right
        };
        self.up();
        Ok(side)
    }

    fn skip_right_children(&mut self) {
        while self.node % 2 == 1 {
            self.up();
        }
    }

    fn up(&mut self) {
        self.node /= 2;
        self.last /= 2;
    }
}

/// Where RFC 6962 splits a range: the largest power of two below its length. `None` for one leaf.
fn split(from: u64, to: u64) -> Option<u64> {
    let below = to.saturating_sub(from).checked_sub(1)?.checked_ilog2()?;
    Some(from + (1 << below))
}

fn range_root(nodes: &mut NodeReader<'_>, range: (u64, u64)) -> Result<TreeHash, ProveError> {
    nodes
        .range_root(range.0, range.1)
        .map_err(|source| ProveError::Node { source })
}

#[cfg(test)]
mod tests {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;
    use sha2::Sha256;

    use super::*;
    use crate::log::tile::tests::{leaf, tree};

    fn inclusion(size: u64, index: u64) -> InclusionProof {
        InclusionProof::prove(&mut NodeReader::new(&tree(size).0, size), index).unwrap()
    }

    fn consistency(from: u64, to: u64) -> ConsistencyProof {
        ConsistencyProof::prove(&mut NodeReader::new(&tree(to).0, to), from).unwrap()
    }

    fn bytes(path: &[TreeHash]) -> Vec<u8> {
        path.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }

    fn other_tree(size: u64) -> MemoryBackedTree<Sha256, [u8; 8]> {
        let mut other = MemoryBackedTree::new();
        for index in 0..size {
            other.push(index.to_be_bytes());
        }
        other
    }

    #[test]
    fn every_small_proof_verifies_and_no_other_number_does() {
        let roots: Vec<TreeHash> = (0..=20).map(|size| tree(size).1.root()).collect();
        for size in 1..=20_u64 {
            let root = roots[usize::try_from(size).unwrap()];
            for index in 0..size {
                let proof = inclusion(size, index);
                assert_eq!(proof.verify(&leaf(index), &root), Ok(()));
                for wrong in (0..size).filter(|wrong| *wrong != index) {
                    assert_eq!(proof.verify(&leaf(wrong), &root), Err(Unproven));
                    let moved = InclusionProof {
                        index: wrong,
                        ..proof.clone()
                    };
                    assert_eq!(moved.verify(&leaf(index), &root), Err(Unproven));
                }
            }
            for from in 0..=size {
                let proof = consistency(from, size);
                for (claimed, from_root) in roots.iter().enumerate() {
                    let expected = if claimed as u64 == from {
                        Ok(())
                    } else {
                        Err(Unproven)
                    };
                    assert_eq!(
                        proof.verify(from_root, &root),
                        expected,
                        "{from} {size} {claimed}"
                    );
                }
            }
        }
    }

    #[test]
    fn given_an_index_or_size_outside_the_tree_when_a_proof_is_asked_for_then_it_is_refused() {
        let (source, _) = tree(3);
        let mut nodes = NodeReader::new(&source, 3);
        assert!(matches!(
            InclusionProof::prove(&mut nodes, 3),
            Err(ProveError::Outside { part: 3, size: 3 })
        ));
        assert!(matches!(
            ConsistencyProof::prove(&mut nodes, 4),
            Err(ProveError::Outside { part: 4, size: 3 })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn inclusion_proofs_are_those_of_an_independent_implementation(
            size in 1_u64..900, index in any::<prop::sample::Index>(),
        ) {
            let index = index.index(usize::try_from(size).unwrap());
            let proof = inclusion(size, index as u64);
            let other = other_tree(size).prove_inclusion(index);
            prop_assert_eq!(bytes(&proof.path), other.as_bytes());
            prop_assert_eq!(proof.verify(&leaf(index as u64), &tree(size).1.root()), Ok(()));
        }

        #[test]
        fn consistency_proofs_are_those_of_an_independent_implementation(
            from in 1_u64..600, more in 1_u64..600,
        ) {
            let to = from + more;
            let proof = consistency(from, to);
            let other = other_tree(to).prove_consistency(usize::try_from(more).unwrap());
            prop_assert_eq!(bytes(&proof.path), other.as_bytes());
            prop_assert_eq!(proof.verify(&tree(from).1.root(), &tree(to).1.root()), Ok(()));
        }

        #[test]
        fn a_path_with_any_change_proves_nothing(
            from in 1_u64..300, more in 1_u64..300,
            position in any::<prop::sample::Index>(), change in 0..3,
        ) {
            let to = from + more;
            let mut proof = consistency(from, to);
            let mut inclusion = inclusion(to, from);
            for path in [&mut proof.path, &mut inclusion.path] {
                let place = position.index(path.len().max(1));
                match change {
                    0 if !path.is_empty() => { path.remove(place); }
                    1 if !path.is_empty() => path[place] = leaf(u64::MAX),
                    _ => path.insert(place, leaf(u64::MAX)),
                }
            }
            prop_assert_eq!(proof.verify(&tree(from).1.root(), &tree(to).1.root()), Err(Unproven));
            prop_assert_eq!(inclusion.verify(&leaf(from), &tree(to).1.root()), Err(Unproven));
        }
    }
}
