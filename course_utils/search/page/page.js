"use strict";
// All text from the server goes into textContent, so none of it can become markup.
const at = (id) => document.getElementById(id);
let asked = 0; // the number of the latest search: an older answer that comes late is dropped

function show(hits, milliseconds) {
  at("hits").replaceChildren(...hits.map((hit, k) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    const image = document.createElement("img");
    link.href = image.src = "/api/pages/" + encodeURIComponent(hit.page);
    link.target = "_blank";
    image.alt = hit.title;
    link.append(image);
    const words = document.createElement("span");
    words.textContent = `${k + 1}. ${hit.title} (${hit.score.toFixed(3)})`;
    item.append(link, words);
    return item;
  }));
  const stages = Object.entries(milliseconds).map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`);
  at("status").textContent = `${hits.length} pages: ${stages.join(", ")}`;
}

async function ask(address, options) {
  const mine = ++asked;
  at("problem").textContent = "";
  at("status").textContent = "Searching …";
  try {
    const response = await fetch(address, options);
    const answer = await response.json();
    if (mine !== asked) return;
    if (response.ok) return show(answer.hits, answer.milliseconds);
    at("problem").textContent = answer.error;
  } catch {
    if (mine !== asked) return;
    at("problem").textContent = "The server does not answer: is it still running?";
  }
  at("status").textContent = "";
  at("hits").replaceChildren();
}

function chosen() {
  return new URLSearchParams({ model: document.querySelector("input[name=model]:checked").value });
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = at("query").value.trim();
  if (!words) {
    at("problem").textContent = "Write a query first.";
    return;
  }
  const options = chosen();
  options.set("query", words);
  options.set("fuse", at("fuse").checked);
  options.set("rerank", at("rerank").checked);
  ask("/api/search?" + options);
});

at("send").addEventListener("click", () => {
  const image = at("image").files[0];
  if (!image) {
    at("problem").textContent = "Choose an image first.";
    return;
  }
  ask("/api/search?" + chosen(), { method: "POST", body: image, headers: { "Content-Type": image.type } });
});

fetch("/api/about").then((response) => response.json()).then((about) => {
  const after = about.models.after ? "" : " The finetuned model is not here, so “after” answers only the examples.";
  at("about").textContent = `${about.pages} pages.${after}`;
  at("fuse").disabled = !about.fuse;
  at("rerank").disabled = !about.rerank;
  at("examples").replaceChildren(...about.examples.map((text) => {
    const option = document.createElement("option");
    option.value = text;
    return option;
  }));
});
