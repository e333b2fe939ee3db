"""Drives `anchorhold mcp` with the Python client as an assistant would; prints "all passed" at the end.

Arguments: the program, the client's mode (auto or legacy), a git repository, and a task that writes python.txt.
"""

import asyncio
import json
import os
import sys

from mcp import Client, StdioServerParameters

PROGRAM, MODE, REPOSITORY, TASK = sys.argv[1:5]
ENGINE = "--no-engine" not in sys.argv

TOOLS = {
    "codex_consult",
    "codex_consult_async",
    "codex_review_changes",
    "codex_review_changes_async",
    "codex_status", "codex_delegate", "codex_delegate_async", "codex_job_status", "codex_job_result",
    "codex_job_consume_result", "codex_job_cancel", "codex_job_list",
    "codex_capabilities", "codex_models", "codex_delegate_dry_run", "codex_dry_run", "codex_transfer",
}


def expect(condition, what):
    if not condition:
        raise SystemExit(f"failed: {what}")


async def call(client, tool, **arguments):
    """The structured content, after comparing it with the text that older clients read."""
    result = await client.call_tool(tool, arguments)
    content = result.structured_content
    expect(json.loads(result.content[0].text) == content, f"{tool}: text and structured content agree")
    expect(content["ok"] is not result.is_error, f"{tool}: ok and is_error agree")
    return content


async def ended(client, job_id):
    for _ in range(600):
        status = await call(client, "codex_job_status", job_id=job_id)
        if status["result_available"]:
            return status
        expect(1000 <= status["poll_after_ms"] <= 10000, "poll_after_ms is clamped")
        await asyncio.sleep(0.2)
    raise SystemExit("failed: the job does not end")


async def delegation(client):
    handle = await call(client, "codex_delegate_async", task=TASK, workspace_root=REPOSITORY)
    job_id = handle["job_id"]
    expect(len(job_id) == 32 and handle["status"] == "running", "a handle")
    status = await ended(client, job_id)
    expect(status["status"] == "done" and status["result_ok"] is True, f"the job is done: {status}")
    result = await call(client, "codex_job_result", job_id=job_id)
    expect("+python" in result["diff"], f"the patch: {result}")
    read = await client.read_resource(result["diff_resource"])
    expect(read.contents[0].text == result["diff"], "the resource is the patch")
    consumed = await call(client, "codex_job_consume_result", job_id=job_id)
    expect(consumed["diff"] == result["diff"], "consume gives the same patch")
    gone = await call(client, "codex_job_result", job_id=job_id)
    expect(gone["error"]["code"] == "job_not_found", "and removes the job")

    heard = []

    async def on_progress(progress, total, message):
        heard.append((progress, message))

    answer = await client.call_tool("codex_delegate", {"task": TASK, "workspace_root": REPOSITORY}, progress_callback=on_progress)
    expect(answer.structured_content["ok"] is True, f"the synchronous call: {answer.structured_content}")
    numbers = [number for number, _ in heard]
    expect(numbers and numbers == sorted(set(numbers)), f"progress increases: {heard}")
    await call(client, "codex_job_consume_result", job_id=answer.structured_content["job_id"])


async def main():
    # The client passes only a few variables of its own on; this program's environment is the test's.
    server = StdioServerParameters(command=PROGRAM, args=["mcp"], env=dict(os.environ))
    async with Client(server, mode=MODE) as client:
        listed = (await client.list_tools()).tools
        expect({tool.name for tool in listed} == TOOLS, "the tools")
        expect(all(tool.output_schema and tool.annotations for tool in listed), "schemas and hints")
        status = await call(client, "codex_status")
        expect(status["ready"] is ENGINE, f"readiness: {status['readiness_detail']}")
        refused = await call(client, "codex_job_list", nonsense=True)
        expect(refused["error"]["code"] == "invalid_arguments", "unknown arguments are refused")
        unknown = await call(client, "codex_job_status", job_id="0" * 31)
        expect(unknown["error"]["repair"]["tool"] == "codex_job_list", "unknown jobs are not found")
        if ENGINE:
            await delegation(client)
    print("all passed")


asyncio.run(main())
