// The pages of records in every view: axe, the width, targets for fingers, a picture.

const { VIEWS, checkAxe, checkTargets, checkWidth, open, url } = require("./driver.js");
const { MOVIES, clear, dialog, field, movies, press } = require("./records-tools.js");

async function check(page, view, name, folder) {
  const what = `${name}, ${view.name}`;
  await checkAxe(page, what);
  await checkWidth(page, what);
  if (view.viewport.width < 500) {
    await checkTargets(page, what);
  }
  await page.screenshot({ path: `${folder}/records-${name}-${view.name}.png` });
}

async function emptyViews(folder) {
  for (const view of VIEWS) {
    const page = await open(MOVIES, view);
    await page.getByText("There are no movies yet.").waitFor();
    await check(page, view, "empty", folder);
    await page.context().close();
  }
}

async function filledViews(folder, movie) {
  for (const view of VIEWS) {
    const page = await open(`${MOVIES}?title=the&sort=title`, view);
    await page.locator("mark").first().waitFor();
    await check(page, view, "search", folder);
    await page.locator("tbody input[type=checkbox]").first().check();
    await press(page, "Delete…");
    await check(page, view, "delete", folder);
    await press(dialog(page), "Cancel");
    await page.goto(`${url}/${MOVIES}`);
    await page.getByText("40 movies", { exact: true }).waitFor();
    await check(page, view, "list", folder);
    for (const name of ["Import…", "Export…", "Delete all movies…"]) {
      await press(page, name);
      await check(page, view, name.replace("…", "").replaceAll(" ", "-").toLowerCase(), folder);
      await page.keyboard.press("Escape");
    }
    await page.goto(`${url}/${MOVIES}?record-key=${movie.id}`);
    await field(page, "Title").fill("");
    await press(page, "Save");
    await page.getByText("Title is missing").waitFor();
    await check(page, view, "record", folder);
    await page.context().close();
  }
}

async function views(page, folder) {
  await clear(page);
  await emptyViews(folder);
  await page.goto(`${url}/${MOVIES}`);
  await page.reload();
  await press(page, "Load sample movies");
  await press(dialog(page), "Done");
  const [movie] = await movies(page, "title=Metropolis");
  await filledViews(folder, movie);
}

module.exports = { views };
