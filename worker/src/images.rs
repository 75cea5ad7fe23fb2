//! Images of the wire as an engine takes them, what the fleet file adds to their questions, and how they are
//! captioned.

use std::sync::Arc;

use bytes::Bytes;
use stoker_core::caption;
use stoker_core::zero_shot::ZeroShot;
use stoker_engine_api::{CaptionInput, ImageInput, ItemInput, Question};
use stoker_proto::v1;

/// The items of a job that wants a vector of each image.
pub(crate) fn plain(files: Vec<Bytes>) -> Vec<ItemInput> {
    files.into_iter().map(|file| input(&file, None)).collect()
}

/// The items of a job that compares images with labels. What it left out is left out here, too.
pub(crate) fn asking(input: v1::ImageClassificationInput) -> Vec<ItemInput> {
    let v1::ImageClassificationInput { images, labels, template } = input;
    let question = Arc::new(Question { labels, template });
    images.iter().map(|file| self::input(file, Some(&question))).collect()
}

/// The items of a job that wants to know what is to be seen on its images.
pub(crate) fn to_caption(input: v1::ImageCaptioningInput) -> Vec<ItemInput> {
    let v1::ImageCaptioningInput { images, prompt, max_tokens } = input;
    let max_tokens = caption::max_tokens(max_tokens);
    let item = |file: Bytes| {
        let (file, prompt) = (file.to_vec(), prompt.clone());
        ItemInput::Caption(Box::new(CaptionInput { file, prompt, max_tokens }))
    };
    images.into_iter().map(item).collect()
}

fn input(file: &Bytes, question: Option<&Arc<Question>>) -> ItemInput {
    let (file, question) = (file.to_vec(), question.cloned());
    ItemInput::Image(Box::new(ImageInput { file, question }))
}

/// Completes the questions of a job's items with what the model's entry in the fleet file says.
pub(crate) fn complete(inputs: &mut [ItemInput], model: &ZeroShot) {
    let mut last: Option<(Arc<Question>, Arc<Question>)> = None;
    for input in inputs {
        let ItemInput::Image(image) = input else { continue };
        let Some(question) = &image.question else { continue };
        // The items of a job share one question, before and after.
        let whole = match &last {
            Some((asked, whole)) if Arc::ptr_eq(asked, question) => Arc::clone(whole),
            Some(_) | None => {
                let whole = Arc::new(Question {
                    labels: model.labels_for(&question.labels).to_vec(),
                    template: model.template_for(&question.template).to_owned(),
                });
                last = Some((Arc::clone(question), Arc::clone(&whole)));
                whole
            }
        };
        image.question = Some(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(input: &ItemInput) -> &Arc<Question> {
        match input {
            ItemInput::Image(image) => image.question.as_ref().unwrap(),
            other => panic!("not an image but {}", other.kind()),
        }
    }

    #[test]
    fn what_is_left_out_of_a_caption_has_a_meaning() {
        let images = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        for (prompt, asked, max_tokens) in [("", 0, caption::DEFAULT_MAX_TOKENS), ("a", 7, 7)] {
            let prompt = prompt.to_owned();
            let (images, max) = (images.clone(), asked);
            let input =
                v1::ImageCaptioningInput { images, prompt: prompt.clone(), max_tokens: max };
            let item = |file: &[u8]| {
                let (file, prompt) = (file.to_vec(), prompt.clone());
                ItemInput::Caption(Box::new(CaptionInput { file, prompt, max_tokens }))
            };
            assert_eq!(to_caption(input), [item(b"a"), item(b"b")]);
        }
    }

    #[test]
    fn items_share_a_question_that_the_model_completes() {
        let images = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let model = ZeroShot::new(names(&["cat", "dog"]), Some("a {}".to_owned())).unwrap();
        for (labels, template, whole) in [
            (names(&[]), "", (names(&["cat", "dog"]), "a {}")),
            (names(&["sea"]), "the {}", (names(&["sea"]), "the {}")),
        ] {
            let template = template.to_owned();
            let input = v1::ImageClassificationInput { images: images.clone(), labels, template };
            let mut inputs = asking(input);
            complete(&mut inputs, &model);
            let [first, second] = [question(&inputs[0]), question(&inputs[1])];
            assert_eq!((&first.labels, first.template.as_str()), (&whole.0, whole.1));
            assert!(Arc::ptr_eq(first, second));
        }
        let mut inputs = plain(images);
        complete(&mut inputs, &model);
        assert!(matches!(&inputs[0], ItemInput::Image(image) if image.question.is_none()));
    }
}
