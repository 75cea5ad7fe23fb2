//! Jobs over recordings: what is refused before it is stored, and what a worker may say of them.

use stoker_proto::v1;
use tonic::Code;

use crate::fixture::{Coordinator, fields, refused};

const EARS: &str = "[models.ear]\ntask = 'speech-to-text'\nsource = 'file:/models/ear'\n\
    [pools.ears]\nmodels = ['ear']\n\
    [limits]\nmax-items = 3\nmax-input = '64KiB'\nmax-recording = '20KiB'\n";

fn listening(recordings: Vec<Vec<u8>>, language: &str) -> v1::SubmitRequest {
    let options = v1::TranscriptionOptions { language: language.to_owned(), translate: false };
    let recordings = recordings.into_iter().map(Into::into).collect();
    let input = v1::SpeechToTextInput { recordings, options: Some(options) };
    let job = v1::JobSpec {
        model: "ear".to_owned(),
        input: Some(v1::JobInput { task: Some(v1::job_input::Task::SpeechToText(input)) }),
        ..v1::JobSpec::default()
    };
    v1::SubmitRequest { job: Some(job) }
}

#[tokio::test]
async fn recordings_that_are_too_many_too_large_or_empty_are_refused_by_name() {
    let coordinator = Coordinator::start(EARS).await;
    let mut jobs = coordinator.jobs().await;
    let sound = |kibibytes: usize| vec![7; kibibytes << 10];
    for (recordings, language, field) in [
        (vec![], "", "job.input.speech_to_text.recordings"),
        (vec![sound(1); 4], "", "job.input.speech_to_text.recordings"),
        (vec![sound(1), vec![]], "", "job.input.speech_to_text.recordings[1]"),
        (vec![sound(1), sound(1), sound(21)], "", "job.input.speech_to_text.recordings[2]"),
        (vec![sound(20), sound(20), sound(25)], "", "job.input"),
        (vec![sound(1)], "Klingon!", "job.input.speech_to_text.options.language"),
    ] {
        let refusal = refused(jobs.submit(listening(recordings, language)).await);
        assert_eq!((refusal.code, fields(&refusal)), (Code::InvalidArgument, vec![field]));
    }
    let mut echo = listening(vec![sound(1)], "en");
    if let Some(job) = &mut echo.job {
        job.model = "echo".to_owned();
    }
    let refusal = refused(jobs.submit(echo).await);
    assert_eq!(fields(&refusal), ["job.input"], "a model that does something else");
    let listed = jobs.list(v1::ListRequest::default()).await.unwrap().into_inner();
    assert!(listed.jobs.is_empty(), "nothing is stored");

    let accepted = jobs.submit(listening(vec![sound(20), sound(1)], "en")).await.unwrap();
    let id = accepted.into_inner().job_id;
    let job = coordinator.get(&id).await;
    assert_eq!((job.items_total, job.pool.as_str()), (2, "ears"));
}
