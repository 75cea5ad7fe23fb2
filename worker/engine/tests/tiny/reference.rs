//! BERT as its definition reads: one number at a time, in f64, padded to the longest text.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::model::{EPSILON, HEADS, HIDDEN, LAYERS, Tensors, WIDE};

type Rows = Vec<Vec<f64>>;

pub(crate) struct Reference<'a>(pub(crate) &'a Tensors);

impl Reference<'_> {
    /// The last layer's vectors of texts padded with token 0, real tokens only.
    pub(crate) fn forward(&self, texts: &[Vec<u32>]) -> Vec<Rows> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        texts.iter().map(|text| self.one(text, longest)).collect()
    }

    fn one(&self, text: &[u32], longest: usize) -> Rows {
        let mut ids: Vec<usize> = text.iter().map(|id| usize::try_from(*id).unwrap()).collect();
        ids.resize(longest, 0);
        let embed = |(position, id): (usize, &usize)| -> Vec<f64> {
            (0..HIDDEN)
                .map(|column| {
                    self.at("embeddings.word_embeddings.weight", id * HIDDEN + column)
                        + self
                            .at("embeddings.position_embeddings.weight", position * HIDDEN + column)
                        + self.at("embeddings.token_type_embeddings.weight", column)
                })
                .collect()
        };
        let rows: Rows = ids.iter().enumerate().map(embed).collect();
        let mut rows = self.norm("embeddings.LayerNorm", &rows);
        for layer in 0..LAYERS {
            rows = self.layer(&format!("encoder.layer.{layer}"), &rows, text.len());
        }
        rows.truncate(text.len());
        rows
    }

    fn layer(&self, name: &str, rows: &Rows, real: usize) -> Rows {
        let [q, k, v] = ["query", "key", "value"]
            .map(|part| self.linear(&format!("{name}.attention.self.{part}"), rows, HIDDEN));
        let mixed: Rows = (0..rows.len()).map(|row| attend(&q[row], &k, &v, real)).collect();
        let out = self.linear(&format!("{name}.attention.output.dense"), &mixed, HIDDEN);
        let rows = self.norm(&format!("{name}.attention.output.LayerNorm"), &add(&out, rows));
        let mut wide = self.linear(&format!("{name}.intermediate.dense"), &rows, WIDE);
        wide.iter_mut().flatten().for_each(|x| *x = 0.5 * *x * (1.0 + erf(*x * FRAC_1_SQRT_2)));
        let out = self.linear(&format!("{name}.output.dense"), &wide, HIDDEN);
        self.norm(&format!("{name}.output.LayerNorm"), &add(&out, &rows))
    }

    fn at(&self, name: &str, index: usize) -> f64 {
        f64::from(self.0[name].1[index])
    }

    fn linear(&self, name: &str, rows: &Rows, outputs: usize) -> Rows {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let one = |row: &Vec<f64>, output: usize| -> f64 {
            let products = row.iter().enumerate();
            let sum: f64 =
                products.map(|(i, x)| x * self.at(&weight, output * row.len() + i)).sum();
            sum + self.at(&bias, output)
        };
        rows.iter().map(|row| (0..outputs).map(|output| one(row, output)).collect()).collect()
    }

    fn norm(&self, name: &str, rows: &Rows) -> Rows {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let count = f64::from(u32::try_from(HIDDEN).unwrap());
        let one = |row: &Vec<f64>| -> Vec<f64> {
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let scaled = row.iter().map(|x| (x - mean) / (variance + EPSILON).sqrt());
            scaled.enumerate().map(|(i, x)| x * self.at(&weight, i) + self.at(&bias, i)).collect()
        };
        rows.iter().map(one).collect()
    }
}

/// One token's attention; keys from `real` on are padding.
fn attend(query: &[f64], keys: &Rows, values: &Rows, real: usize) -> Vec<f64> {
    let width = HIDDEN / HEADS;
    let scale = f64::from(u32::try_from(width).unwrap()).sqrt();
    let mut out = Vec::new();
    for head in 0..HEADS {
        let part = head * width..(head + 1) * width;
        let dot = |key: &Vec<f64>| -> f64 {
            query[part.clone()].iter().zip(&key[part.clone()]).map(|(a, b)| a * b).sum()
        };
        let mask = |index: usize| if index < real { 0.0 } else { f64::NEG_INFINITY };
        let powers: Vec<f64> = keys
            .iter()
            .enumerate()
            .map(|(index, key)| (dot(key) / scale + mask(index)).exp())
            .collect();
        let sum: f64 = powers.iter().sum();
        for column in part {
            out.push(powers.iter().zip(values).map(|(p, value)| p / sum * value[column]).sum());
        }
    }
    out
}

fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

/// The error function by its series, exact enough for |x| below 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in (1..80).map(f64::from) {
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * FRAC_2_SQRT_PI
}
