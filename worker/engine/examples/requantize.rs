//! Writes a model's GGUF file again with its quantized matrices in another format, so that formats can be compared on the
//! same weights.
//!
//!     cargo run --release -p stoker-engine --example requantize -- IN.gguf q8_0|q4_0 OUT.gguf
//!
//! For benchmarks: a matrix that was quantized twice is worse than one that was once. Matrices of 8 bits stay as they are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};

/// How GGUF says which format most of the matrices have.
const FILE_TYPE: &str = "general.file_type";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, format, to] = &arguments[..] else {
        return Err("name the file, q8_0 or q4_0, and the file to write".into());
    };
    let (dtype, file_type) = match format.as_str() {
        "q8_0" => (GgmlDType::Q8_0, 7),
        "q4_0" => (GgmlDType::Q4_0, 2),
        other => return Err(format!("`{other}` is neither q8_0 nor q4_0").into()),
    };
    let mut file = BufReader::new(File::open(from)?);
    let content = Content::read(&mut file)?;
    let mut tensors = Vec::new();
    let mut names: Vec<&String> = content.tensor_infos.keys().collect();
    names.sort();
    for name in names {
        let tensor = content.tensor(&mut file, name, &Device::Cpu)?;
        let stays = matches!(tensor.dtype(), GgmlDType::F32 | GgmlDType::F16 | GgmlDType::Q8_0);
        let tensor = if stays {
            tensor
        } else {
            QTensor::quantize(&tensor.dequantize(&Device::Cpu)?, dtype)?
        };
        tensors.push((name.as_str(), tensor));
    }
    let mut metadata: BTreeMap<String, Value> = content.metadata.into_iter().collect();
    metadata.insert(FILE_TYPE.to_owned(), Value::U32(file_type));
    let metadata: Vec<(&str, &Value)> =
        metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    write(&mut BufWriter::new(File::create(to)?), &metadata, &tensors)?;
    Ok(())
}
