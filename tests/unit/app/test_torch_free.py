from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

SCRIPT = """
import sys
from fastapi.testclient import TestClient
from app.main import create_app
from app.settings import Settings

with TestClient(create_app(Settings(home=sys.argv[1]))) as client:
    assert client.post("/api/v1/experiments?dry_run=true", json={"preset": "tiny"}).status_code in (200, 422)
    assert client.get("/api/v1/runs").status_code == 200
print(*sorted({"torch", "transformers", "peft", "datasets"} & set(sys.modules)))
"""


def test_a_service_at_work_never_loads_torch(tmp_path: Path) -> None:
    """Importing is the law's letter; here the whole application is made, and checks a configuration."""
    result = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
