"""Score a running server over HTTP on the pictures that heldout/make_heldout.py wrote.

usage: score_http.py URL DIR [--limit N]      e.g. score_http.py http://127.0.0.1:8080 held
Exact match per task, greedy answers; needs the standard library only.
"""
import argparse
import base64
import json
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def ask(url, folder, item):
    """The model's answer to one item."""
    path = folder / item["image"]
    kind = "jpeg" if path.suffix in (".jpg", ".jpeg") else "png"
    picture = f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": item["question"]}]
    body = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def main():
    """Ask everything, a few at a time, and print the share of exact answers per task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, help="items per task")
    options = parser.parse_args()
    items, taken = [], defaultdict(int)
    for line in (options.folder / "items.jsonl").read_text("utf-8").splitlines():
        item = json.loads(line)
        taken[item["task"]] += 1
        if options.limit is None or taken[item["task"]] <= options.limit:
            items.append(item)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda item: ask(options.url, options.folder, item), items))
    right = defaultdict(list)
    for item, answer in zip(items, answers):
        right[item["task"]].append(answer.strip() == item["answer"])
    for task, marks in right.items():
        print(f"{task:8} {100 * sum(marks) / len(marks):5.1f} % of {len(marks)}")


if __name__ == "__main__":
    main()
