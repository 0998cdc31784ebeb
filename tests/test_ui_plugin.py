"""The plugin for Metaflow's UI shows how to continue a run, where that helps.

The page around it sends what the UI sends to a plugin, in a sandbox as the UI has it.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import Page, needs_browser

from ojd_daps_language_models import PROJECT_DIR

PLUGIN = PROJECT_DIR / "ui_plugins" / "resume_command"
NAME = "resume_command"
UI = """<!doctype html>
<textarea id="elsewhere"></textarea>
<div id="slot"></div>
<script>
  const { plugin, resource, metadata } = %s;
  const frame = document.createElement("iframe");
  frame.name = plugin.name;
  frame.sandbox = `allow-scripts ${plugin.parameters.sandbox || ""}`;
  frame.src = `/api/plugin/${plugin.name}/${plugin.config.entrypoint}`;
  frame.width = 800;
  const received = [];
  window.addEventListener("message", (event) => {
    const message = event.data;
    if (message.name !== plugin.name) return;
    received.push(message.type);
    const send = (answer) => frame.contentWindow.postMessage(answer, "*");
    if (message.type === "PluginRegisterEvent" && message.version.api) {
      send({ type: "ReadyToRender", config: plugin, resource, settings: {} });
    } else if (message.type === "PluginSubscribeToData") {
      for (const path of message.paths) {
        if (path === "run-metadata") send({ type: "DataUpdate", path, data: metadata });
      }
    } else if (message.type === "PluginHeightCheck") {
      frame.height = message.height;
    } else if (message.event === "UPDATE_PLUGIN") {
      const { slot, name, visible } = message.data;
      if (slot !== plugin.config.slot || name !== plugin.name) return;
      document.getElementById("slot").style.display = visible ? "block" : "none";
      document.body.dataset.visible = visible;
    }
  });
  document.getElementById("slot").append(frame);
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    browser = Page(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def ui():
    """The UI: its page around the plugin, and its service, which knows one run."""
    files = {path.name: path.read_bytes() for path in PLUGIN.iterdir()}

    class Service(BaseHTTPRequestHandler):
        def do_GET(self):
            *_, folder, name = self.path.split("/")
            if self.path == "/":
                self.answer("text/html", UI % json.dumps(server.shown))
            elif self.path == "/api/flows/MLMFlow/runs/12":
                self.answer("application/json", json.dumps({"data": server.run}))
            elif folder == NAME and name in files:
                self.answer("text/html", files[name].decode())
            else:
                self.send_error(404)

        def answer(self, kind, text):
            self.send_response(200)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.url = f"http://127.0.0.1:{server.server_port}/"
    server.run = {"flow_id": "MLMFlow", "run_number": 12, "status": "failed"}
    server.shown = {
        "plugin": {
            "name": NAME,
            "parameters": {"sandbox": "allow-same-origin"},
            "config": json.loads(files["manifest.json"]),
        },
        "resource": {"flow_id": "MLMFlow", "run_number": "12"},
        "metadata": {"script-name": "mlm_flow.py", "attempt_ok": "True"},
    }
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    yield server
    server.shutdown()


def shown(page, ui) -> str:
    """What the plugin shows; nothing where it has hidden itself."""
    page.open(ui.url)
    if page.wait_for("document.body && document.body.dataset.visible") == "false":
        assert page.ask("document.querySelector('section').hidden", frame=1)
        return ""
    if ui.shown["metadata"]:
        page.wait_for("metadata['script-name']", frame=1)
    return page.ask("document.querySelector('#command').textContent", frame=1)


def test_the_manifest_has_what_the_ui_asks_for():
    manifest = json.loads((PLUGIN / "manifest.json").read_text())
    assert {"name", "version", "entrypoint"} <= set(manifest)
    assert manifest["slot"] == "run-header"
    assert (PLUGIN / manifest["entrypoint"]).is_file()
    assert "http" not in (PLUGIN / manifest["entrypoint"]).read_text()


@needs_browser
def test_a_failed_run_shows_the_command_that_continues_it(page, ui):
    assert shown(page, ui) == "python flows/mlm_flow.py resume --origin-run-id 12"
    assert "This run failed" in page.ask("document.body.innerText", frame=1)
    page.wait_for("document.querySelector('iframe').height > 40")


@needs_browser
def test_the_button_copies_the_command(page, ui):
    command = shown(page, ui)
    place = page.ask(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "(document.querySelector('#copy').getBoundingClientRect())",
        frame=1,
    )
    frame = page.ask(
        "(({x, y}) => [x, y])(document.querySelector('iframe').getBoundingClientRect())"
    )
    page.click(*(inner + outer for inner, outer in zip(place, frame, strict=True)))
    page.wait_for("document.querySelector('#copy').textContent === 'Copied'", frame=1)
    page.ask("document.querySelector('#elsewhere').focus()")
    page.paste()
    assert page.wait_for("document.querySelector('#elsewhere').value") == command


@needs_browser
@pytest.mark.parametrize("status", ["completed", "running", "pending"])
def test_other_runs_show_nothing(page, ui, status):
    ui.run["status"] = status
    assert shown(page, ui) == ""


@needs_browser
def test_where_the_sandbox_keeps_it_from_asking_it_says_if(page, ui):
    ui.shown["plugin"]["parameters"] = {}
    assert shown(page, ui) == "python flows/mlm_flow.py resume --origin-run-id 12"
    assert "If this run failed" in page.ask("document.body.innerText", frame=1)


@needs_browser
def test_engine_and_profile_are_part_of_the_command(page, ui):
    ui.shown["plugin"]["parameters"]["profile"] = "gpus"
    ui.shown["metadata"]["aws-batch-job-id"] = "1f2e"
    command = "flows/mlm_flow.py resume --with batch --origin-run-id 12"
    assert shown(page, ui) == f"METAFLOW_PROFILE=gpus python {command}"


@needs_browser
@pytest.mark.parametrize(
    ("flow", "script", "command"),
    [
        ("SkillSimilarityFlow", None, "flows/skill_similarity_flow.py"),
        ("NERFlow", "ner_flow.py", "flows/ner_flow.py"),
        ("TrainFlow", "pipeline.py", "pipeline.py"),
    ],
)
def test_the_file_is_found_by_the_name_of_the_flow(page, ui, flow, script, command):
    ui.shown["resource"]["flow_id"] = flow
    ui.shown["plugin"]["parameters"] = {}
    ui.shown["metadata"] = {"script-name": script} if script else {}
    assert shown(page, ui) == f"python {command} resume --origin-run-id 12"


@needs_browser
@pytest.mark.parametrize("run", ["12; rm -r .", "$(id)", "12 --with x", "-h", ""])
def test_what_is_no_run_id_is_never_shown_as_a_command(page, ui, run):
    ui.shown["resource"]["run_number"] = run
    ui.shown["plugin"]["parameters"] = {}
    assert shown(page, ui) == ""
