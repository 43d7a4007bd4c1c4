const page = new Page(new Model(JSON.parse(element("data").textContent)));
