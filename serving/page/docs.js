// The examples as they work here: with this service's address, and with its token if it has one.
const ADDRESS = "http://127.0.0.1:8000", here = new URL(".", location.href).href.slice(0, -1);
const AUTHORIZATION = 'curl -H "Authorization: Bearer $VAESWEEP_TOKEN" ';
const examples = [...document.querySelectorAll("pre.example")];

for (const example of examples) {
  example.textContent = example.textContent.replaceAll(ADDRESS, here);
  const button = document.createElement("button");
  Object.assign(button, { type: "button", className: "quiet", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(example.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(example);  // to be copied by hand
    }
  });
  example.after(button);
}

const answer = await fetch("v1/model").catch(() => null);
if (answer?.status === 401) {
  document.getElementById("token").hidden = false;
  for (const example of examples) {
    if (/\/(v1\/|metrics)/.test(example.textContent)) {
      example.textContent = example.textContent.replaceAll("curl ", AUTHORIZATION);
    }
  }
}
