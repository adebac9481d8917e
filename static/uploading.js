// How far an upload is; large files take a while.
const bar = () => document.querySelector(".upload-progress");

document.addEventListener("htmx:xhr:loadstart", (event) => {
  if (event.target.closest?.("#upload-box") && bar()) bar().hidden = false;
});
document.addEventListener("htmx:xhr:progress", (event) => {
  if (bar() && event.detail.lengthComputable) bar().value = event.detail.loaded / event.detail.total;
});
document.addEventListener("htmx:xhr:loadend", () => { if (bar()) bar().hidden = true; });
