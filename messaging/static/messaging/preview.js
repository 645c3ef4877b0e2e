"use strict";
// Shows what the server makes of a form while it is being filled in: <div data-preview="address"> inside the form.
for (const box of document.querySelectorAll("[data-preview]")) {
    const form = box.closest("form");
    let timer;
    let asked = 0;

    const show = async () => {
        const mine = ++asked;
        try {
            const answer = await fetch(box.dataset.preview, { method: "POST", body: new FormData(form) });
            // An answer to what was typed before must not win over the latest.
            if (answer.ok && mine === asked) box.innerHTML = await answer.text();
        } catch {
            // Without a connection the last preview stays; saving tells what is wrong.
        }
    };

    const later = () => {
        clearTimeout(timer);
        timer = setTimeout(show, 250);
    };
    form.addEventListener("input", later);
    form.addEventListener("change", later);
    show();
}
