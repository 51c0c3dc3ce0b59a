// The panel of other programs: shows a command before it runs, and what it said.

const command = document.querySelector("#command");
const output = document.querySelector("#output");
const buttons = [...document.querySelectorAll("[data-program]")];

function show(line, said) {
  command.textContent = `$ ${line}`;
  output.textContent = said;
}

async function run(button) {
  show(button.dataset.command, "…");
  button.disabled = true;
  try {
    const answer = await fetch(`/programs/${button.dataset.program}`, { method: "POST" });
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const said = await answer.json();
    show(said.command, `${said.output}\n(exit ${said.code}, ${said.ms} ms)`);
  } catch (error) {
    output.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

for (const button of buttons) button.addEventListener("click", () => run(button));
show(buttons[0].dataset.command, "");
