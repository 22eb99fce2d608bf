//! Tiles of matrices whose edges and groups do not fall where tiles do.

use super::*;
use crate::model::{Family, Hparams};
use crate::weights::{Matrix, RandomKind, random_weights};

#[test]
fn outputs_past_the_edge_have_no_scale() {
    let hparams = Hparams { n_intermediate: 24, ..Hparams::tiny(Family::Llama) };
    let weights = random_weights(&hparams, RandomKind::AwqGemm { group_size: 8 }, 1);
    let Matrix::Int4(matrix) = &weights.layers[0].gate.matrix else { panic!("asked for int4") };
    let mut tile = Int4Tile::new(8);

    matrix.read_tile(16, 3, &mut tile);

    assert!(tile.scales[..8].iter().all(|scale| *scale > 0.0));
    assert_eq!(tile.scales[8..], [0.0; 8]);
    assert!(tile.q[64..].iter().all(|q| *q == 0));
}

#[test]
fn a_scale_for_more_inputs_than_a_group_is_that_of_each_of_its_groups() {
    let hparams = Hparams::tiny(Family::Llama);
    let weights = random_weights(&hparams, RandomKind::AwqGemm { group_size: 64 }, 1);
    let Matrix::Int4(matrix) = &weights.layers[0].down.matrix else { panic!("asked for int4") };

    let cut = Int4Matrix { group_size: 32, ..matrix.clone() };

    assert_eq!((matrix.n_groups(), cut.n_groups()), (4, 8));
    assert_eq!(cut.to_f32(), matrix.to_f32());
}

#[test]
fn large_groups_are_cut_where_they_can_be() {
    for (n_sharing, expected) in
        [(8, 8), (100, 100), (128, 128), (129, 129), (192, 64), (256, 128), (3_584, 128)]
    {
        assert_eq!(group_size_of(n_sharing), expected, "{n_sharing}");
    }
}
