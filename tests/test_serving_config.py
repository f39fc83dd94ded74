"""Files for TensorFlow Serving, docker-compose and Kubernetes, read by those that read them."""

import http.server
import json
import subprocess
import threading

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from kbert import serving_config

yaml = pytest.importorskip("yaml")


@pytest.fixture
def exports(tmp_path):
    for name, versions in {"news": (1, 2), "mood": (2, 3)}.items():
        for version in versions:
            extra = tmp_path / "saved" / name / str(version) / "assets.extra"
            extra.mkdir(parents=True)
            (extra.parent / "saved_model.pb").touch()
            (extra / "export_report.json").write_text(json.dumps({"tf_serving": {"oldest": "2.12" if version < 3 else "2.14"}}))
    return tmp_path / "saved"


def written(tmp_path, *flags):
    assert serving_config.main([*flags, f"--output_dir={tmp_path / 'out'}"]) == 0
    return {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}


def test_several_models_with_labels(exports, tmp_path):
    files = written(tmp_path, f"--export_dirs={exports}/news,{exports}/mood", "--version_labels=stable:2", "--replicas=3")
    configs = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert [(c.name, c.base_path, c.model_platform) for c in configs] == [
        (name, f"/models/{name}", "tensorflow") for name in ("news", "mood")
    ]
    assert all(list(c.model_version_policy.specific.versions) == [2] and c.version_labels == {"stable": 2} for c in configs)
    compose = yaml.safe_load(files["docker-compose.yml"])["services"]["serving"]
    assert compose["image"] == "tensorflow/serving:2.19.1" and compose["volumes"][1:] == [
        f"{exports / name}:/models/{name}:ro" for name in ("news", "mood")
    ]
    assert "--allow_version_labels_for_unavailable_models=true" in compose["command"]
    parts = {part["kind"]: part for part in yaml.safe_load_all(files["kubernetes.yaml"])}
    assert parts["ConfigMap"]["data"] == {name: text for name, text in files.items() if name.endswith(".config")}
    pod = parts["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert parts["Deployment"]["spec"]["replicas"] == 3 and container["args"] == compose["command"]
    assert container["readinessProbe"]["exec"]["command"] == compose["healthcheck"]["test"][1:]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert parts["Service"]["spec"]["selector"] == parts["Deployment"]["spec"]["template"]["metadata"]["labels"]


def test_one_model_serves_its_newest_version(exports, tmp_path):
    files = written(tmp_path, f"--export_dirs={exports}/mood", "--max_batch_rows=16", "--batch_delay_ms=0.5")
    (config,) = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert not config.HasField("model_version_policy") and not config.version_labels
    assert "max_batch_size { value: 16 }\nbatch_timeout_micros { value: 500 }\n" in files["batching.config"]
    assert "unavailable" not in files["docker-compose.yml"]


@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_the_probe_waits_until_a_model_answers(exports, tmp_path, state):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/v1/models/news"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"model_version_status": [{"version": "1", "state": state}]}).encode())

        def log_message(self, *_):
            pass

    files = written(tmp_path, f"--export_dirs={exports}/news")
    command = yaml.safe_load(files["docker-compose.yml"])["services"]["serving"]["healthcheck"]["test"][1:]
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run([word.replace("/8501", f"/{server.server_port}") for word in command], timeout=60)
        server.shutdown()
    assert (done.returncode == 0) == (state == "AVAILABLE")


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--export_dirs={}/none"], "has no exported version; kbert export writes them"),
        (["--export_dirs={}/news/1"], "is itself an exported version; name the folder above it"),
        (["--export_dirs={}/news,{}/../saved/news"], "--export_dirs: two models are named news"),
        (["--export_dirs={}/ne ws"], "a model's name has letters, digits, _, - and . alone"),
        (["--export_dirs={}/news", "--version_labels=stable:3"], "--version_labels: stable:3: news has the versions 1, 2"),
        (["--export_dirs={}/news", "--version_labels=stable"], "expected LABEL:VERSION, each label once; found 'stable'"),
        (["--export_dirs={}/mood", "--image=tensorflow/serving:2.12.2"], "mood/3 needs TensorFlow Serving 2.14 or newer"),
    ],
)
def test_mistakes(exports, tmp_path, capsys, flags, message):
    assert serving_config.main([*(f.replace("{}", str(exports)) for f in flags), f"--output_dir={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
