use clap::{Args as _, FromArgMatches as _};

use super::super::args::ColorChoice;
use super::*;
use crate::review::format::tests::review;

fn parse(args: &[&str]) -> Reports {
    let command = Reports::augment_args(Command::new("t"));
    Reports::from_arg_matches(&command.try_get_matches_from([&["t"], args].concat()).unwrap()).unwrap()
}

fn checked(args: &[&str]) -> Result<Vec<Report>> {
    parse(args).checked(false, &Format::ALL)
}

#[test]
fn forms_and_places_go_in_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (at("a"), at("b"));
    let report = |format, output: Option<&str>| Report { format, output: output.map(PathBuf::from) };
    assert_eq!(checked(&[]).unwrap(), [report(Format::Text, None)]);
    assert_eq!(
        checked(&["--format", "sarif", "--output", &a, "--format", "text", "--format", "markdown", "-o", &b]).unwrap(),
        [report(Format::Sarif, Some(&a)), report(Format::Text, None), report(Format::Markdown, Some(&b))]
    );
    assert_eq!(checked(&["--format", "json", "--output", "-"]).unwrap(), [report(Format::Json, None)]);
    let (gone, here) = (at("no/such"), dir.path().to_str().unwrap());
    for bad in [
        &["--output", &a][..],
        &["--format", "sarif", "--output", &a, "--output", &b],
        &["--format", "sarif", "--format", "text"],
        // Annotations have standard output for themselves, wherever the payload goes.
        &["--format", "github", "--output", &a, "--format", "text"],
        &["--format", "sarif", "--output", &a, "--format", "text", "--output", &a],
        &["--format", "sarif", "--output", &gone],
        &["--format", "sarif", "--output", here],
    ] {
        assert_eq!(checked(bad).unwrap_err().code, Code::InvalidArguments, "{bad:?}");
    }
    assert_eq!(parse(&["--format", "text"]).checked(true, &Format::ALL).unwrap_err().code, Code::InvalidArguments);
    assert_eq!(parse(&[]).checked(true, &Format::ALL).unwrap(), []);
    assert_eq!(parse(&["--format", "sarif"]).checked(false, &[Format::Text]).unwrap_err().code, Code::InvalidArguments);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a check leaves nothing behind");
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    std::fs::write(&file, "old").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    Target::of(&link).unwrap().write(b"new").unwrap();
    assert_eq!((std::fs::read(&file).unwrap(), link.is_symlink()), (b"new".to_vec(), true));
    let plain = dir.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let mode = |file: &Path| std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode(&file), mode(&plain), "others may read a report as they may read any file");
    assert!(matches!(Target::of(Path::new("/dev/null")).unwrap(), Target::Special(_)));
    Target::of(Path::new("/dev/null")).unwrap().write(b"x").unwrap();
    // A directory takes the file's place between check and writing: nothing is half there, and the failure is told.
    let target = Target::of(&dir.path().join("late")).unwrap();
    std::fs::create_dir(dir.path().join("late")).unwrap();
    assert_eq!(target.write(b"x").unwrap_err().code, Code::Internal);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn several_files_come_of_one_review() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let files = [at("a.sarif"), at("b.md"), at("c.xml")];
    let reports = checked(&[
        "--format", "sarif", "--output", &files[0], "--format", "markdown", "--output", &files[1], "--format", "junit", "--output", &files[2],
    ])
    .unwrap();
    let out = Output::new(false, true, ColorChoice::Always);
    let told = write(&out, &reports, &review(), &context(&out, None)).unwrap();
    assert_eq!(told[1], json!({ "format": "markdown", "output": files[1] }));
    let text = |file: &str| std::fs::read_to_string(file).unwrap();
    assert!(text(&files[0]).contains("\"2.1.0\"") && text(&files[1]).starts_with("## Review: fail") && text(&files[2]).starts_with("<?xml"));
}

#[test]
fn a_step_summary_is_added_to_and_stays_within_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("summary");
    std::fs::write(&file, "before\n").unwrap();
    step_summary(&file, b"after\n").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "before\nafter\n");
    step_summary(&file, &vec![b'x'; STEP_SUMMARY as usize]).unwrap();
    assert!(std::fs::read_to_string(&file).unwrap().ends_with("does not fit here beside the others.\n"));
}

#[test]
fn a_threshold_is_a_severity_or_none() {
    assert_eq!(FailOn::parse("none"), Ok(FailOn(None)));
    assert_eq!(FailOn::parse("medium"), Ok(FailOn(Some(Severity::Medium))));
    assert!(FailOn::parse("worst").is_err());
}

#[test]
fn an_address_with_a_credential_is_not_told() {
    let url = |text: &str| repository_url(&|name| (name == "CI_PROJECT_URL").then(|| text.to_owned()));
    assert_eq!(url("https://gitlab.example/me/repo").as_deref(), Some("https://gitlab.example/me/repo"));
    for bad in ["https://me:secret@gitlab.example/repo", "file:///etc", "nothing", "https://x.example/?token=1"] {
        assert_eq!(url(bad), None, "{bad}");
    }
    let github = |name: &str| match name {
        "GITHUB_SERVER_URL" => Some("https://github.example".to_owned()),
        "GITHUB_REPOSITORY" => Some("me/repo".to_owned()),
        _ => None,
    };
    assert_eq!(repository_url(&github).as_deref(), Some("https://github.example/me/repo"));
}
