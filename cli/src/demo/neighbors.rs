//! Nearest neighbors by cosine. Pure, and exact: a few thousand vectors need no index.

/// Vectors of one length with the texts that they stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    texts: Vec<String>,
    /// Scaled to length 1; a vector of zeros stays as it is.
    unit: Vec<Vec<f32>>,
}

/// A text near to another one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Neighbor<'a> {
    pub(crate) text: &'a str,
    /// From -1 to 1.
    pub(crate) cosine: f32,
}

impl Space {
    /// `vectors` are in the order of `texts`; what has no counterpart is left out.
    pub(crate) fn new(texts: Vec<String>, vectors: Vec<Vec<f32>>) -> Self {
        let (texts, unit) =
            texts.into_iter().zip(vectors).map(|(text, vector)| (text, normalized(vector))).unzip();
        Self { texts, unit }
    }

    /// The `count` nearest texts, nearest first.
    pub(crate) fn nearest(&self, query: &[f32], count: usize) -> Vec<Neighbor<'_>> {
        let query = normalized(query.to_vec());
        let mut all: Vec<_> = self
            .texts
            .iter()
            .zip(&self.unit)
            .map(|(text, vector)| Neighbor { text, cosine: dot(&query, vector) })
            .collect();
        all.sort_by(|a, b| b.cosine.total_cmp(&a.cosine));
        all.truncate(count);
        all
    }
}

fn normalized(mut vector: Vec<f32>) -> Vec<f32> {
    let length = dot(&vector, &vector).sqrt();
    if length > 0.0 {
        for component in &mut vector {
            *component /= length;
        }
    }
    vector
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_whatever_their_length() {
        let texts = ["east", "north", "far northeast", "west", "nowhere"].map(String::from);
        let vectors = [[1.0, 0.0], [0.0, 2.0], [30.0, 30.0], [-1.0, 0.0], [0.0, 0.0]];
        let space = Space::new(texts.to_vec(), vectors.map(|v| v.to_vec()).to_vec());
        let found = space.nearest(&[0.1, 0.0], 3);
        let names: Vec<_> = found.iter().map(|neighbor| neighbor.text).collect();
        assert_eq!(names[..2], ["east", "far northeast"]);
        assert!((found[0].cosine - 1.0).abs() < 1e-6);
        assert!((found[1].cosine - 0.5_f32.sqrt()).abs() < 1e-6);
        assert_eq!(space.nearest(&[1.0, 0.0], 9).len(), 5);
    }
}
